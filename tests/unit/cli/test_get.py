"""`pilotfish get` against a real API server."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from pilotfish.api.kinds import CONFIG_MAP


def _config_map(cli_mesh: Any, namespace: str, name: str, text: str = "x", **labels: str) -> None:
    cli_mesh.create(CONFIG_MAP, {"metadata": {"name": name, "labels": labels}, "data": {"k": text}}, namespace)


def test_tables(cli_mesh: Any, namespace: str) -> None:
    cli_mesh.pod("web-1", namespace, app="web")
    cli_mesh.pod("long-named-pod", namespace, app="other")
    lines = cli_mesh.run("get", "po", "-n", namespace).stdout.splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["long-named-pod", "0/2", "Pending"],
        ["web-1", "0/2", "Pending"],
    ]
    assert {line.index(word) for line, word in zip(lines, ("READY", "0/2", "0/2"), strict=True)} == {17}
    assert not any(line.endswith(" ") for line in lines)
    assert "NOMINATED NODE" in cli_mesh.run("get", "pods", "-n", namespace, "-o", "wide").stdout
    selected = cli_mesh.run("get", "pods", "-n", namespace, "-l", "app=web").stdout.splitlines()
    assert [line.split()[0] for line in selected] == ["NAME", "web-1"]


def test_several_kinds_and_all_namespaces(cli_mesh: Any, namespace: str) -> None:
    _config_map(cli_mesh, namespace, "c")
    cli_mesh.pod("p", namespace)
    done = cli_mesh.run("get", "pods,svc,cm", "-n", namespace)
    assert [line.split()[0] for line in done.stdout.splitlines() if line] == ["NAME", "pod/p", "NAME", "configmap/c"]
    assert "\n\nNAME" in done.stdout
    done = cli_mesh.run("get", "cm/c", "pod/p", "-n", namespace, "-o", "name")
    assert done.stdout.splitlines() == ["configmap/c", "pod/p"]
    everywhere = cli_mesh.run("get", "cm", "-A").stdout.splitlines()
    assert everywhere[0].startswith("NAMESPACE")
    assert [namespace, "c"] in [line.split()[:2] for line in everywhere]


def test_objects_as_yaml_and_json(cli_mesh: Any, namespace: str) -> None:
    _config_map(cli_mesh, namespace, "one", "a\nb\n")
    _config_map(cli_mesh, namespace, "two")
    text = cli_mesh.run("get", "cm", "one", "-n", namespace, "-o", "yaml").stdout
    assert text.startswith("apiVersion: v1\ndata:\n  k: |\n    a\n    b\nkind: ConfigMap\n")
    assert "managedFields" not in text
    listed = json.loads(cli_mesh.run("get", "cm", "-n", namespace, "-o", "json").stdout)
    assert (listed["kind"], [i["metadata"]["name"] for i in listed["items"]]) == ("List", ["one", "two"])
    assert {item["kind"] for item in listed["items"]} == {"ConfigMap"}
    empty = yaml.safe_load(cli_mesh.run("get", "secret", "-n", namespace, "-o", "yaml").stdout)
    assert empty["items"] == []


def test_what_get_shows_can_be_applied(cli_mesh: Any, namespace: str) -> None:
    _config_map(cli_mesh, namespace, "c", "2024-01-01")
    text = cli_mesh.run("get", "cm", "-n", namespace, "-o", "yaml").stdout
    assert cli_mesh.run("apply", "-f", "-", stdin=text).stdout == "configmap/c unchanged\n"


def test_what_there_is_not(cli_mesh: Any, namespace: str) -> None:
    _config_map(cli_mesh, namespace, "c")
    done = cli_mesh.run("get", "pods", "-n", namespace)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"No resources found in {namespace} namespace.\n")
    assert cli_mesh.run("get", "pods", "-A", "-l", "no=such").stderr == "No resources found\n"
    assert cli_mesh.run("get", "nodes").stderr == "No resources found\n"
    done = cli_mesh.run("get", "cm", "a", "c", "z", "-n", namespace)
    assert done.exit_code == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["NAME", "c"]
    assert done.stderr.splitlines() == [f'Error: (NotFound): configmaps "{name}" not found' for name in "az"]
    done = cli_mesh.run("get", "cm", "a", "-n", namespace, "-o", "json")
    assert (done.exit_code, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobs"], "there is no kind 'frobs'"),
        ([], "say which kind"),
        (["pods", "a", "-l", "x=y"], "exclude each other"),
        (["pods", "a", "-A"], "instead of -A"),
        (["pods,svc", "-w"], "at a time"),
        (["pods", "a", "b", "-w"], "at a time"),
    ],
)
def test_command_lines_that_contradict_themselves(arguments: list[str], message: str, cli_mesh: Any) -> None:
    done = cli_mesh.run("get", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_without_a_mesh_it_says_how_to_start_one(cli_mesh: Any, tmp_path: Any) -> None:
    done = cli_mesh.run("--home", str(tmp_path), "get", "pods")
    assert done.exit_code == 1
    assert "start a mesh with `pilotfish up --detach`" in done.stderr
