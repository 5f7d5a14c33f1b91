"""`pilotfish logs`: whose log is asked for, and which part of it."""

from __future__ import annotations

from typing import Any

import pytest

from pilotfish.api.kinds import DEPLOYMENT, POD, SERVICE


@pytest.fixture
def pods(cli_mesh: Any, namespace: str) -> Any:
    """Two pods of a deployment, of which the second is ready, and one of nobody that is not."""
    selector = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}
    containers = [{"name": "web", "image": "x"}]
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}}
    spec = {"selector": selector, "template": template}
    cli_mesh.create(DEPLOYMENT, {"metadata": {"name": "web"}, "spec": spec}, namespace)
    cli_mesh.pod("web-1", namespace, app="web")
    cli_mesh.pod("web-2", namespace, app="web")
    cli_mesh.pod("alone", namespace, app="web", tier="other")
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    cli_mesh.do(cli_mesh.client.patch(POD, "web-2", namespace, ready, subresource="status"))
    cli_mesh.pods.written.update({"web-1": "one\ntwo\n", "web-2": "three\nlast without an end"})
    cli_mesh.pods.asked.clear()
    return cli_mesh.pods


def test_a_pod_and_its_default_container(cli_mesh: Any, namespace: str, pods: Any) -> None:
    done = cli_mesh.run("logs", "web-1", "-n", namespace)
    assert (done.exit_code, done.stdout) == (0, "one\ntwo\n")
    assert done.stderr == 'Defaulted container "app" out of: app, proxy\n'
    assert cli_mesh.run("logs", "pod/web-1", "-c", "proxy", "-n", namespace).stderr == ""
    annotation = {"metadata": {"annotations": {"kubectl.kubernetes.io/default-container": "proxy"}}}
    cli_mesh.do(cli_mesh.client.patch(POD, "web-1", namespace, annotation))
    assert cli_mesh.run("logs", "web-1", "-n", namespace).stderr == ""
    assert pods.asked == [
        {"pod": "web-1", "container": "app"},
        {"pod": "web-1", "container": "proxy"},
        {"pod": "web-1", "container": "proxy"},
    ]


def test_every_option_reaches_the_server(cli_mesh: Any, namespace: str, pods: Any) -> None:
    options = ["-f", "--tail", "5", "--since", "1m30s", "-p", "--timestamps", "-c", "app"]
    assert cli_mesh.run("logs", "web-1", "-n", namespace, *options).exit_code == 0
    assert pods.asked == [
        {
            "pod": "web-1",
            "container": "app",
            "follow": "true",
            "previous": "true",
            "timestamps": "true",
            "tailLines": "5",
            "sinceSeconds": "90",
        }
    ]
    assert "is no duration" in cli_mesh.run("logs", "web-1", "--since", "yesterday").stderr


def test_a_workload_stands_for_the_pod_that_serves(cli_mesh: Any, namespace: str, pods: Any) -> None:
    done = cli_mesh.run("logs", "deploy/web", "-c", "app", "-n", namespace)
    assert done.stdout == "three\nlast without an end\n"
    assert done.stderr == "Found 2 pods, using pod/web-2\n"
    spec = {"selector": {"app": "nobody"}, "ports": [{"port": 80}]}
    cli_mesh.create(SERVICE, {"metadata": {"name": "none"}, "spec": spec}, namespace)
    done = cli_mesh.run("logs", "svc/none", "-n", namespace)
    assert (done.exit_code, "svc/none has no pods at present" in done.stderr) == (1, True)
    cli_mesh.run("apply", "-n", namespace, "-f", "-", stdin="{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}")
    assert "cm/c has no pods: name a pod" in cli_mesh.run("logs", "cm/c", "-n", namespace).stderr


@pytest.mark.parametrize("follow", [(), ("-f",)])
def test_a_selector_shows_all_its_pods_and_one_without_a_log_hides_none(
    follow: tuple[str, ...], cli_mesh: Any, namespace: str, pods: Any
) -> None:
    done = cli_mesh.run("logs", "-l", "app=web", "-c", "app", "-n", namespace, *follow)
    assert done.exit_code == 1
    assert sorted(done.stdout.splitlines()) == ["last without an end", "one", "three", "two"]
    assert done.stderr == "Error: pod alone: (BadRequest): alone waits to start\n"
    assert {asked["tailLines"] for asked in pods.asked} == {"10"}
    nobody = cli_mesh.run("logs", "-l", "app=nobody", "-n", namespace)
    assert (nobody.exit_code, nobody.stderr) == (0, f"No resources found in {namespace} namespace.\n")


def test_it_takes_one_of_name_and_selector(cli_mesh: Any) -> None:
    for arguments in ([], ["web-1", "-l", "app=web"]):
        done = cli_mesh.run("logs", *arguments)
        assert (done.exit_code, "say whose" in done.stderr) == (2, True)
    assert 'pods "nope" not found' in cli_mesh.run("logs", "nope").stderr
