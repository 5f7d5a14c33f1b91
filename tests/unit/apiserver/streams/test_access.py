"""Who may open streams: the API server wants any user's certificate, a node wants the API server's own."""

from __future__ import annotations

import ssl
import time
from typing import Any

import httpx
import pytest

from pilotfish.pki.files import KeyFiles

pytestmark = pytest.mark.root

PATH = "/api/v1/namespaces/default/pods/web"


def client(mesh: Any, port: int, pair: KeyFiles | None) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(mesh.files.ca))
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context, trust_env=False, timeout=10)


def test_a_node_answers_the_api_server_alone(stream_mesh: Any) -> None:
    path = "/containerLogs/default/web/app"
    with client(stream_mesh, stream_mesh.node_port, stream_mesh.files.api_server_client) as ours:
        deadline = time.monotonic() + 10
        while not (answer := ours.get(path)).text and time.monotonic() < deadline:
            time.sleep(0.01)  # the container has only just been started
        assert (answer.status_code, answer.text.splitlines()[0]) == (200, "Server started.")
        assert ours.get("/containerLogs/default/nobody/app").status_code == 404
    with client(stream_mesh, stream_mesh.node_port, stream_mesh.files.admin) as other:
        refused = other.get(path)
        assert refused.status_code == 403
        assert 'only "pilotfish-apiserver" may ask a node' in refused.json()["message"]
    with client(stream_mesh, stream_mesh.node_port, None) as nobody, pytest.raises(httpx.TransportError):
        nobody.get(path)


SPDY = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}


@pytest.mark.parametrize(
    ("query", "headers", "code", "message"),
    [
        ("exec?container=app&command=ls&stdout=1", {}, 400, "Upgrade request required"),
        (
            "exec?container=app&command=ls&stdout=1",
            SPDY | {"X-Stream-Protocol-Version": "v1.channel.k8s.io"},
            400,
            "unable to negotiate protocol",
        ),
        ("exec?container=app&command=ls", SPDY, 400, "at least 1 of stdin, stdout, stderr"),
        ("exec?container=app&stdout=1", SPDY, 400, "at least one command"),
        ("exec?command=ls&stdout=1", SPDY, 400, "a container name must be specified for pod web"),
        ("attach?container=none&stdout=1", SPDY, 400, "container none is not valid for pod web"),
    ],
)
def test_what_is_wrong_is_said_in_http(
    stream_mesh: Any, query: str, headers: dict[str, str], code: int, message: str
) -> None:
    with client(stream_mesh, stream_mesh.api_port, stream_mesh.files.admin) as user:
        for _ in range(2):  # the connection of a refused upgrade is not taken for another request
            refused = user.post(f"{PATH}/{query}", headers=headers)
            assert refused.status_code == code
            assert message in refused.json()["message"]


def test_streams_are_for_known_users(stream_mesh: Any) -> None:
    with client(stream_mesh, stream_mesh.api_port, None) as nobody:
        assert nobody.get(f"{PATH}/log?container=app").status_code == 401
        assert nobody.post(f"{PATH}/exec?container=app&command=ls&stdout=1", headers=SPDY).status_code == 401
