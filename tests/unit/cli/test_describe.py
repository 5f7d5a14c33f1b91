"""`pilotfish describe` against a real API server."""

from __future__ import annotations

from typing import Any

from pilotfish.api.kinds import DEPLOYMENT, EVENT, NODE


def test_describe(cli_mesh: Any, namespace: str) -> None:
    spec = {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "x"}]}},
    }
    metadata = {"name": "web", "labels": {"b": "2", "a": "1"}, "annotations": {"note": "two\nlines"}}
    made = cli_mesh.create(DEPLOYMENT, {"metadata": metadata, "spec": spec}, namespace)
    for count, (reason, uid) in enumerate((("Later", made.metadata.uid), ("Other", "another")), start=3):
        event = {
            "metadata": {"name": reason.lower()},
            "involvedObject": {"kind": "Deployment", "name": "web", "uid": uid, "namespace": namespace},
            "reason": reason, "message": "it happened", "type": "Warning", "count": count,
            "source": {"component": "test"},
            "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:01:00Z",
        }  # fmt: skip
        cli_mesh.create(EVENT, event, namespace)
    done = cli_mesh.run("describe", "deploy", "web", "-n", namespace)
    assert done.exit_code == 0, done.output
    head = done.stdout.splitlines()
    assert head[:7] == [
        "Name:          web",
        f"Namespace:     {namespace}",
        "Labels:        a=1",
        "               b=2",
        "Annotations:   note: two",
        "               lines",
        "Kind:          Deployment, apps/v1",
    ]
    assert "\nSpec:\n  progressDeadlineSeconds: 600\n  replicas: 1\n" in done.stdout
    events = done.stdout.partition("Events:\n")[2].splitlines()
    assert len(events) == 3 and events[2].split()[:2] == ["Warning", "Later"]
    assert "(x3 over " in events[2] and events[2].endswith("test   it happened")


def test_describe_finds_by_the_beginning_of_a_name_and_tells_no_secret(cli_mesh: Any, namespace: str) -> None:
    for name in ("web-1", "web-2", "other"):
        cli_mesh.pod(name, namespace)
    done = cli_mesh.run("describe", "pods", "web", "-n", namespace)
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("Name:")] == ["web-1", "web-2"]
    assert cli_mesh.run("describe", "pod/nope", "-n", namespace).exit_code == 1
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {password: c2VjcmV0}\n"
    assert cli_mesh.run("apply", "-n", namespace, "-f", "-", stdin=text).exit_code == 0
    described = cli_mesh.run("describe", "secret", "s", "-n", namespace).stdout
    assert "password: 6 bytes" in described and "c2VjcmV0" not in described
    assert "Events:        <none>" in described


def test_describe_of_what_has_no_namespace(cli_mesh: Any) -> None:
    cli_mesh.create(NODE, {"metadata": {"name": "described"}})
    try:
        text = cli_mesh.run("describe", "node", "described").stdout
        assert text.startswith("Name:          described\nLabels:        <none>\n")
    finally:
        cli_mesh.run("delete", "node", "described")
