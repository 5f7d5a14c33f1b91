"""`pilotfish delete` against a real API server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from pilotfish.api.errors import NotFound
from pilotfish.api.kinds import CONFIG_MAP, POD


def _names(cli_mesh: Any, namespace: str) -> list[str]:
    listing = cli_mesh.do(cli_mesh.client.list(CONFIG_MAP, namespace))
    return [obj.name for obj in listing.items]


def _config_maps(cli_mesh: Any, namespace: str, *names: str, **labels: str) -> None:
    for name in names:
        cli_mesh.create(CONFIG_MAP, {"metadata": {"name": name, "labels": labels}}, namespace)


def test_by_name_and_by_selector(cli_mesh: Any, namespace: str) -> None:
    _config_maps(cli_mesh, namespace, "a", "b", "c")
    _config_maps(cli_mesh, namespace, "d", "e", app="x")
    done = cli_mesh.run("delete", "cm", "a", "b", "-n", namespace)
    assert (done.exit_code, done.stdout) == (0, 'configmap "a" deleted\nconfigmap "b" deleted\n')
    assert cli_mesh.run("delete", "cm", "-l", "app=x", "-n", namespace).exit_code == 0
    assert _names(cli_mesh, namespace) == ["c"]
    assert cli_mesh.run("delete", "cm/c", "-n", namespace).exit_code == 0
    done = cli_mesh.run("delete", "cm", "-l", "app=x", "-n", namespace)
    assert (done.exit_code, done.stderr) == (0, f"No resources found in {namespace} namespace.\n")


def test_all_of_a_kind_in_one_namespace(cli_mesh: Any, namespace: str) -> None:
    _config_maps(cli_mesh, namespace, "a", "b")
    _config_maps(cli_mesh, "default", "stays")
    assert cli_mesh.run("delete", "cm", "--all", "-n", namespace).exit_code == 0
    assert _names(cli_mesh, namespace) == []
    assert "stays" in _names(cli_mesh, "default")


def test_what_is_not_there_does_not_stop_the_others(cli_mesh: Any, namespace: str) -> None:
    _config_maps(cli_mesh, namespace, "a")
    done = cli_mesh.run("delete", "cm", "nope", "a", "-n", namespace)
    assert (done.exit_code, done.stdout) == (1, 'configmap "a" deleted\n')
    assert done.stderr == 'Error: (NotFound): configmaps "nope" not found\n'
    done = cli_mesh.run("delete", "cm", "nope", "-n", namespace, "--ignore-not-found")
    assert (done.exit_code, done.output) == (0, "")


def test_by_manifests(cli_mesh: Any, namespace: str) -> None:
    _config_maps(cli_mesh, namespace, "a", "b")
    text = "\n---\n".join(f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {n}}}}}" for n in ("a", "nope", "b"))
    done = cli_mesh.run("delete", "-n", namespace, "-f", "-", stdin=f"{text}\n---\n- what\n")
    assert (done.exit_code, done.stdout) == (1, 'configmap "a" deleted\nconfigmap "b" deleted\n')
    assert "standard input:3: (NotFound)" in done.stderr
    assert "standard input:7: it is a list" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pods"], "say which"),
        (["pods", "a", "--all"], "--all leaves nothing to choose"),
        (["pods", "-l", "a=b", "--all"], "--all leaves nothing to choose"),
        (["pods", "a", "-f", "x"], "-f says which objects"),
        ([], "say which kind"),
    ],
)
def test_command_lines_that_are_not_clear(arguments: list[str], message: str, cli_mesh: Any) -> None:
    done = cli_mesh.run("delete", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_it_waits_until_the_object_is_gone(
    cli_mesh: Any, namespace: str, wait_until: Any, ended: Callable[..., Any]
) -> None:
    document = {
        "metadata": {"name": "slow", "finalizers": ["test/hold"]},
        "spec": {"containers": [{"name": "app", "image": "x"}]},
    }
    cli_mesh.create(POD, document, namespace)
    client = cli_mesh.client
    quick = cli_mesh.run("delete", "pod", "slow", "-n", namespace, "--no-wait", "--grace-period", "7")
    assert quick.stdout == 'pod "slow" deleted\n'
    assert cli_mesh.do(client.get(POD, "slow", namespace)).metadata.deletion_timestamp
    waiting: subprocess.Popen[bytes] = ended(
        cli_mesh.start("delete", "pod", "slow", "-n", namespace, "--grace-period", "0", stdout=subprocess.PIPE)
    )
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == b'pod "slow" deleted\n'
    assert waiting.poll() is None
    cli_mesh.do(client.patch(POD, "slow", namespace, {"metadata": {"finalizers": None}}))
    assert waiting.wait(10) == 0
    with pytest.raises(NotFound):
        cli_mesh.do(client.get(POD, "slow", namespace))
