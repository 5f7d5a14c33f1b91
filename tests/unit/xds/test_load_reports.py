"""Node agents tell what their proxies use, over a real connection with mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import pytest

from pilotfish.api.errors import ApiError, ServiceUnavailable
from pilotfish.node.controlplane import ControlPlane
from pilotfish.node.usage import Load
from pilotfish.pki.authority import Authority, SubjectNames
from pilotfish.pki.files import Files, KeyPair
from pilotfish.pki.identity import Identity, node_identity
from pilotfish.xds.load_reports import load_report_service
from pilotfish.xds.server import mutual_tls, serving
from pilotfish.xds.source import ProxyNode

NODE = {"id": "sidecar~10.0.0.2~web-1.default~x", "metadata": {"DNS_CAPTURE": "true"}}
Told = list[tuple[ProxyNode, frozenset[str]]]
Connect = Callable[[KeyPair], ControlPlane]


def with_service(
    folder: Path, interval: float, talk: Callable[[Authority, Connect, Told], Coroutine[Any, Any, None]]
) -> None:
    authority = Authority.at(Files(folder))
    server = authority.issue_server("istiod", SubjectNames.of(dns=["istiod.istio-system.svc"]))
    told: Told = []

    async def run() -> None:
        trusted = {"cluster.local"}
        service = load_report_service(trusted, lambda _: interval, lambda node, used: told.append((node, used)))
        async with serving([service], "127.0.0.1:0", mutual_tls(server, authority.pem)) as port:

            def connect(pair: KeyPair) -> ControlPlane:
                credentials = grpc.ssl_channel_credentials(authority.pem, pair.key, pair.certificate)
                return ControlPlane(f"127.0.0.1:{port}", credentials)

            await talk(authority, connect, told)

    asyncio.run(run())


def certified(authority: Authority, identity: Identity, user: str = "") -> KeyPair:
    return authority.issue_client(user, names=SubjectNames.of(uris=[str(identity)]))


def agent(authority: Authority) -> KeyPair:
    return certified(authority, node_identity("cluster.local"), "system:node:laptop")


def test_a_report_tells_what_was_used_and_its_answer_when_the_next_is_due(tmp_path: Path) -> None:
    async def talk(authority: Authority, connect: Connect, told: Told) -> None:
        control_plane = connect(agent(authority))
        loads = {"begun": Load(0, 3), "open": Load(1, 0), "idle": Load(0, 0)}
        assert await control_plane.report(NODE, loads) == 2.5
        ((node, used),) = told
        assert (node.id, node.ip, node.metadata) == (NODE["id"], "10.0.0.2", NODE["metadata"])
        assert used == {"begun", "open"}
        await control_plane.report(NODE, {"idle": Load(0, 0)})
        assert told[-1][1] == set()
        await control_plane.close()

    with_service(tmp_path, 2.5, talk)


def test_who_has_nothing_to_tell_yet_is_not_idle(tmp_path: Path) -> None:
    async def talk(authority: Authority, connect: Connect, told: Told) -> None:
        control_plane = connect(agent(authority))
        assert await control_plane.report(NODE, {}) == 1
        assert told == []
        await control_plane.close()

    with_service(tmp_path, 1, talk)


def test_where_nobody_asks_there_is_no_answer(tmp_path: Path) -> None:
    async def talk(authority: Authority, connect: Connect, told: Told) -> None:
        control_plane = connect(agent(authority))
        assert await control_plane.report(NODE, {"a": Load(0, 1)}) == 0
        assert told == []
        await control_plane.close()

    with_service(tmp_path, 0, talk)


@pytest.mark.parametrize(
    ("namespace", "message"), [("default", None), ("other", "other/sa/web may not connect as sidecar")]
)
def test_a_workload_reports_for_its_own_namespace(tmp_path: Path, namespace: str, message: str | None) -> None:
    async def talk(authority: Authority, connect: Connect, told: Told) -> None:
        control_plane = connect(certified(authority, Identity("cluster.local", namespace, "web")))
        if message is None:
            await control_plane.report(NODE, {"a": Load(0, 1)})
        else:
            with pytest.raises(ApiError, match=message):
                await control_plane.report(NODE, {"a": Load(0, 1)})
        assert len(told) == (message is None)
        await control_plane.close()

    with_service(tmp_path, 1, talk)


def test_a_control_plane_that_is_away_is_told_later(tmp_path: Path) -> None:
    async def run() -> None:
        authority = Authority.at(Files(tmp_path))
        pair = agent(authority)
        credentials = grpc.ssl_channel_credentials(authority.pem, pair.key, pair.certificate)
        control_plane = ControlPlane("127.0.0.1:1", credentials)
        with pytest.raises(ServiceUnavailable, match=r"no load report for sidecar~10\.0\.0\.2"):
            await control_plane.report(NODE, {})
        await control_plane.close()

    asyncio.run(run())
