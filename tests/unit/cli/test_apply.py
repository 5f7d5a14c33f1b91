"""`pilotfish apply` against a real API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilotfish.api.kinds import CONFIG_MAP, DEPLOYMENT, VIRTUAL_SERVICE

DEPLOY = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web:1}]}
"""


def config_map(name: str, **data: str) -> str:
    lines = "".join(f"  {key}: {value!r}\n" for key, value in data.items())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n{lines}"


def test_an_object_is_created_then_unchanged_then_configured(cli_mesh: Any, namespace: str) -> None:
    def apply(text: str) -> str:
        done = cli_mesh.run("apply", "-n", namespace, "-f", "-", stdin=text)
        assert done.exit_code == 0, done.output
        return str(done.stdout)

    assert apply(DEPLOY) == "deployment.apps/web created\n"
    assert apply(DEPLOY) == "deployment.apps/web unchanged\n"
    assert apply(DEPLOY.replace("web:1", "web:2")) == "deployment.apps/web configured\n"
    found = cli_mesh.do(cli_mesh.client.get(DEPLOYMENT, "web", namespace))
    assert found.spec.template.spec.containers[0].image == "web:2"


def test_a_change_of_status_alone_is_no_change(cli_mesh: Any, namespace: str) -> None:
    cli_mesh.run("apply", "-n", namespace, "-f", "-", stdin=DEPLOY)
    status = {"status": {"replicas": 1}}
    cli_mesh.do(cli_mesh.client.patch(DEPLOYMENT, "web", namespace, status, subresource="status"))
    assert cli_mesh.run("apply", "-n", namespace, "-f", "-", stdin=DEPLOY).stdout == "deployment.apps/web unchanged\n"


def test_what_leaves_the_manifest_leaves_the_object_and_others_fields_stay(cli_mesh: Any, namespace: str) -> None:
    cli_mesh.run("apply", "-n", namespace, "-f", "-", stdin=config_map("c", a="1", b="2"))
    cli_mesh.do(cli_mesh.client.patch(CONFIG_MAP, "c", namespace, {"data": {"theirs": "3"}}))
    done = cli_mesh.run("apply", "-n", namespace, "-f", "-", stdin=config_map("c", a="1"))
    assert done.stdout == "configmap/c configured\n"
    assert cli_mesh.do(cli_mesh.client.get(CONFIG_MAP, "c", namespace)).data == {"a": "1", "theirs": "3"}


def test_a_field_that_another_owns_is_taken_over(cli_mesh: Any, namespace: str) -> None:
    cli_mesh.create(CONFIG_MAP, {"metadata": {"name": "c"}, "data": {"a": "theirs"}}, namespace)
    assert cli_mesh.run("apply", "-n", namespace, "-f", "-", stdin=config_map("c", a="ours")).exit_code == 0
    assert cli_mesh.do(cli_mesh.client.get(CONFIG_MAP, "c", namespace)).data == {"a": "ours"}


BAD = {
    "syntax": ("kind: [", "it is not YAML"),
    "no object": ("- a\n- b", "it is a list and not an object"),
    "no kind": ("metadata: {name: x}", "apiVersion and kind must be set"),
    "no name": ("apiVersion: v1\nkind: ConfigMap", "metadata.name of this ConfigMap must be set"),
    "unknown kind": ("apiVersion: v1\nkind: Frob\nmetadata: {name: x}", 'no matches for kind "Frob" in version "v1"'),
    "other version": (
        "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: x}",
        'in version "extensions/v1beta1": Deployment is of apps/v1',
    ),
    "twice": ("apiVersion: v1\nkind: ConfigMap\nkind: Secret\nmetadata: {name: x}", "'kind' stands here again"),
    "unknown field": (config_map("x") + "dota: {}", 'unknown field "dota"'),
    "other namespace": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: elsewhere}",
        "written for the namespace elsewhere",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_document_does_not_stop_the_others(
    name: str, cli_mesh: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    space = f"bad-{list(BAD).index(name)}"
    cli_mesh.run("apply", "-f", "-", stdin=f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {space}}}")
    text, message = BAD[name]
    file = tmp_path / "all.yaml"
    file.write_text(f"{config_map('one')}---\n{text}\n---\n{config_map('two')}")
    done = cli_mesh.run("apply", "-n", space, "-f", str(file))
    assert done.exit_code == 1
    assert done.stdout == "configmap/one created\nconfigmap/two created\n"
    assert message in done.stderr
    assert f"Error: {file}:" in done.stderr


def test_the_line_of_a_fault_is_that_of_the_file(cli_mesh: Any, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(f"{config_map('line')}---\n# a comment\nkind: x\n  bad: indentation\n")
    done = cli_mesh.run("apply", "-f", str(file))
    assert f"{file}:9: it is not YAML" in done.stderr, done.stderr


def test_files_folders_and_lists(cli_mesh: Any, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(config_map("b"))
    (tmp_path / "a.json").write_text('{\n\t"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}\n}')
    (tmp_path / "notes.txt").write_text("not: [yaml")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/d.yml").write_text(config_map("d"))
    listed = tmp_path / "list"
    listed.write_text(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}}\n- 3\n"
    )
    done = cli_mesh.run("apply", "-n", namespace, "-f", str(tmp_path), "-f", str(listed))
    assert done.stdout.splitlines() == ["configmap/a created", "configmap/b created", "secret/s created"]
    assert f"{listed}:1, items[1]: it is 3 and not an object" in done.stderr
    assert done.exit_code == 1
    done = cli_mesh.run("apply", "-n", namespace, "-R", "-f", str(tmp_path))
    assert done.stdout.splitlines()[-1] == "configmap/d created"


def test_warnings_of_the_server_are_shown(cli_mesh: Any, namespace: str) -> None:
    field = "spec.tcp[].match[].sourceSubnet"
    assert field in VIRTUAL_SERVICE.istio_neither
    routes = (
        "apiVersion: networking.istio.io/v1beta1\nkind: VirtualService\nmetadata: {name: vs}\n"
        "spec: {hosts: [a.test], tcp: [{match: [{sourceSubnet: 10.0.0.0/8}], route: [{destination: {host: b.test}}]}]}"
    )
    done = cli_mesh.run("apply", "-n", namespace, "-f", "-", stdin=routes)
    assert done.stdout == "virtualservice.networking.istio.io/vs created\n"
    assert done.stderr.startswith("Warning: ") and field in done.stderr


def test_a_namespace_that_there_is_not_and_nothing_to_do(cli_mesh: Any) -> None:
    done = cli_mesh.run("apply", "-n", "nowhere", "-f", "-", stdin=config_map("c"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == 'Error: standard input:1: (NotFound): namespaces "nowhere" not found\n'
    assert "no objects passed to apply" in cli_mesh.run("apply", "-f", "-", stdin="# nothing\n---\n").stderr
    assert "say which manifests" in cli_mesh.run("apply").stderr
    missing = cli_mesh.run("apply", "-f", "/nonexistent.yaml")
    assert "cannot read /nonexistent.yaml: No such file or directory" in missing.stderr
