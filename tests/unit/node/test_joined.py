"""What stands for a workload that joins, field by field of its group."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilotfish.api import kinds
from pilotfish.api.decode import decode
from pilotfish.api.meta import Condition
from pilotfish.api.networking import WorkloadGroup
from pilotfish.api.pods import Pod
from pilotfish.node import joined


def group(name: str = "tills", **spec: Any) -> WorkloadGroup:
    document = {"metadata": {"name": name, "namespace": "shop", "uid": "g-1"}, "spec": {"template": {}, **spec}}
    return decode(kinds.WORKLOAD_GROUP, document)


def pod() -> Pod:
    about = {"name": "tills-x", "namespace": "shop", "uid": "p-1"}
    return decode(kinds.POD, {"metadata": about, "status": {"podIP": "10.0.0.7"}})


def env(front: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in front["spec"]["containers"][0]["env"]}


@pytest.mark.covers(
    "WorkloadGroup.spec.template.address",
    "WorkloadGroup.spec.template.ports",
    "WorkloadGroup.spec.template.labels",
    "WorkloadGroup.spec.template.network",
    "WorkloadGroup.spec.template.locality",
    "WorkloadGroup.spec.template.weight",
    "WorkloadGroup.spec.template.serviceAccount",
    "WorkloadGroup.spec.metadata.labels",
    "WorkloadGroup.spec.metadata.annotations",
)
def test_the_entry_is_the_template_at_the_fronts_address() -> None:
    template = {
        "address": "192.0.2.9",
        "ports": {"http": 8080},
        "labels": {"app": "till", "floor": "1"},
        "network": "shops",
        "locality": "eu/a",
        "weight": 3,
        "serviceAccount": "till",
    }
    metadata = {"labels": {"floor": "2"}, "annotations": {"note": "x"}}
    entry = joined.entry(group(template=template, metadata=metadata), pod())
    labels = {
        "app": "till",
        "floor": "2",
        "service.istio.io/canonical-name": "till",
        "service.istio.io/canonical-revision": "latest",
    }
    assert entry["spec"] == {**template, "address": "10.0.0.7", "labels": labels}
    assert entry["metadata"] == {
        "name": "tills-10.0.0.7-shops",
        "labels": labels,
        "annotations": {"istio.io/autoRegistrationGroup": "tills", "note": "x"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "tills-x", "uid": "p-1", "controller": True}],
    }
    assert [str(f) for f in kinds.WORKLOAD_ENTRY.validate(decode(kinds.WORKLOAD_ENTRY, entry))] == []
    anonymous = joined.entry(group(template={"address": "192.0.2.9"}), pod())
    assert anonymous["spec"]["serviceAccount"] == "default", "the account of its front"


def test_an_entry_whose_health_is_checked_says_so() -> None:
    checked = joined.entry(group(probe={"tcpSocket": {"port": 9}}), pod())
    assert checked["metadata"]["annotations"]["proxy.istio.io/health-checks-enabled"] == "true"


def test_names_of_entries() -> None:
    assert joined.entry_name(group(), "2001:db8::1") == "tills-2001-db8--1"
    long = joined.entry_name(group("a" * 250), "10.0.0.7")
    assert len(long) == 253 and long.endswith("a-10.0.0.7")


def test_the_front_has_a_proxy_that_knows_whose_it_is() -> None:
    template = {"labels": {"app": "till"}, "serviceAccount": "till", "network": "shops"}
    front = joined.front(group(template=template), "lock", None)
    assert front["metadata"]["labels"] == {"sidecar.istio.io/inject": "true"}, "what selects it would find two"
    assert front["metadata"]["annotations"] == {"pilotfish.dev/joined-by": "lock"}
    assert [ref["kind"] for ref in front["metadata"]["ownerReferences"]] == ["WorkloadGroup"]
    assert front["spec"]["serviceAccountName"] == "till"
    known = env(front)
    assert known["ISTIO_META_WORKLOAD_ENTRY"] == "tills-$(INSTANCE_IP)-shops"
    assert known["ISTIO_META_NETWORK"] == "shops"
    assert known["ISTIO_META_AUTO_REGISTER_GROUP"] == "tills"
    assert json.loads(known["ISTIO_METAJSON_LABELS"])["app"] == "till"
    assert "ISTIO_META_PILOTFISH_WORKLOAD_ADDRESS" not in known


@pytest.mark.parametrize(
    ("address", "opened"), [("169.254.1.1", {"pilotfish.dev/host-process": "true"}), ("1.2.3.4", {})]
)
def test_the_front_of_a_process_elsewhere(address: str, opened: dict[str, str]) -> None:
    front = joined.front(group(), "lock", address)
    assert env(front)["ISTIO_META_PILOTFISH_WORKLOAD_ADDRESS"] == address
    assert front["metadata"]["annotations"] == {"pilotfish.dev/joined-by": "lock", **opened}


def test_a_probe_with_istios_defaults() -> None:
    assert joined.probe(group()) is None
    probe = joined.probe(group(probe={"httpGet": {"port": 80}}))
    assert probe is not None and probe.http_get is not None
    assert (probe.period_seconds, probe.timeout_seconds, probe.success_threshold, probe.failure_threshold) == (
        10,
        1,
        1,
        1,
    )
    assert (probe.http_get.path, probe.http_get.scheme, probe.initial_delay_seconds) == ("/", "HTTP", 0)


@pytest.mark.covers(
    "WorkloadGroup.spec.probe.initialDelaySeconds",
    "WorkloadGroup.spec.probe.timeoutSeconds",
    "WorkloadGroup.spec.probe.periodSeconds",
    "WorkloadGroup.spec.probe.successThreshold",
    "WorkloadGroup.spec.probe.failureThreshold",
    "WorkloadGroup.spec.probe.httpGet.path",
    "WorkloadGroup.spec.probe.httpGet.port",
    "WorkloadGroup.spec.probe.httpGet.host",
    "WorkloadGroup.spec.probe.httpGet.scheme",
    "WorkloadGroup.spec.probe.httpGet.httpHeaders[].name",
    "WorkloadGroup.spec.probe.httpGet.httpHeaders[].value",
    "WorkloadGroup.spec.probe.tcpSocket.host",
    "WorkloadGroup.spec.probe.tcpSocket.port",
    "WorkloadGroup.spec.probe.exec.command",
    "WorkloadGroup.spec.probe.grpc.port",
    "WorkloadGroup.spec.probe.grpc.service",
)
def test_every_field_of_a_probe() -> None:
    numbers = {
        "initialDelaySeconds": 1,
        "timeoutSeconds": 2,
        "periodSeconds": 3,
        "successThreshold": 4,
        "failureThreshold": 5,
    }
    header = {"name": "X-Probe", "value": "yes"}
    http = {"path": "/ready", "port": 81, "host": "127.0.0.1", "scheme": "HTTPS", "httpHeaders": [header]}
    probe = joined.probe(group(probe={**numbers, "httpGet": http}))
    assert probe is not None and probe.http_get is not None
    assert probe.initial_delay_seconds == 1
    assert (probe.timeout_seconds, probe.period_seconds) == (2, 3)
    assert (probe.success_threshold, probe.failure_threshold) == (4, 5)
    action = probe.http_get
    assert (action.path, action.port, action.host, action.scheme) == ("/ready", 81, "127.0.0.1", "HTTPS")
    assert [(h.name, h.value) for h in action.http_headers] == [("X-Probe", "yes")]
    tcp = joined.probe(group(probe={"tcpSocket": {"port": 82, "host": "h"}}))
    assert tcp is not None and tcp.tcp_socket is not None
    assert (tcp.tcp_socket.port, tcp.tcp_socket.host) == (82, "h")
    grpc = joined.probe(group(probe={"grpc": {"port": 83, "service": "s"}}))
    assert grpc is not None and grpc.grpc is not None
    assert (grpc.grpc.port, grpc.grpc.service) == (83, "s")
    command = joined.probe(group(probe={"exec": {"command": ["check", "it"]}}))
    assert command is not None and command.exec is not None
    assert command.exec.command == ("check", "it")


def test_health_keeps_other_conditions_and_the_time_of_the_last_change() -> None:
    other = Condition(type="Other", status="True")
    first = joined.with_health((other,), False, "refused", "t1")
    assert first[0] == other
    assert (first[1].status, first[1].message, first[1].last_transition_time) == ("False", "refused", "t1")
    again = joined.with_health(first, False, "refused still", "t2")
    assert (again[1].message, again[1].last_transition_time, again[1].last_probe_time) == ("refused still", "t1", "t2")
    well = joined.with_health(again, True, "", "t3")
    assert (len(well), well[1].status, well[1].reason, well[1].last_transition_time) == (2, "True", "", "t3")
