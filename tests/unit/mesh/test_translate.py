"""What of single objects becomes a record, and what does not."""

from __future__ import annotations

from typing import Any

from pilotfish.api import kinds
from pilotfish.api.decode import decode
from pilotfish.api.scheme import AnyKind
from pilotfish.mesh import translate
from pilotfish.mesh.records import Registry, Resolution, WorkloadKey

DOMAIN = "cluster.local"


def typed(kind: AnyKind, **document: Any) -> Any:
    metadata = {"name": "x", "namespace": "ns", **document.pop("metadata", {})}
    return decode(kind, {"metadata": metadata, **document})


def test_service() -> None:
    spec = {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "selector": {"b": "2", "a": "1"}}
    ports = [{"name": "http", "port": 80, "targetPort": "web", "nodePort": 30000}]
    (found,) = translate.service(typed(kinds.SERVICE, spec={**spec, "ports": ports}), DOMAIN)
    service = found.service
    assert service.hostname == "x.ns.svc.cluster.local"
    assert service.addresses == ("10.0.0.1", "fd00::1")
    assert service.selector == (("a", "1"), ("b", "2"))
    assert (service.ports[0].target, service.ports[0].node_port) == ("web", 30000)
    assert service.registry is Registry.KUBERNETES
    assert not service.headless


def test_service_exported_to_some() -> None:
    annotations = {"networking.istio.io/exportTo": "a, .,"}
    obj = typed(kinds.SERVICE, metadata={"annotations": annotations}, spec={"clusterIP": "10.0.0.1"})
    (found,) = translate.service(obj, DOMAIN)
    assert found.service.export_to == (".", "a")
    assert [found.service.visible_in(n) for n in ("ns", "a", "b")] == [True, True, False]


def test_services_that_are_no_hosts() -> None:
    assert translate.service(typed(kinds.SERVICE, spec={}), DOMAIN) == ()


def test_a_service_that_stands_for_another_name() -> None:
    spec = {"type": "ExternalName", "externalName": "Api.test.", "ports": [{"port": 80}]}
    (found,) = translate.service(typed(kinds.SERVICE, spec=spec), DOMAIN)
    service = found.service
    assert (service.hostname, service.canonical, service.ports) == ("x.ns.svc.cluster.local", "Api.test", ())


def test_headless_service() -> None:
    (found,) = translate.service(typed(kinds.SERVICE, spec={"clusterIP": "None"}), DOMAIN)
    assert found.service.headless
    assert found.service.addresses == ()


def test_service_entry_of_several_hosts() -> None:
    spec = {
        "hosts": ["A.test", "*.b.test", "A.test"],
        "resolution": "DNS",
        "ports": [{"number": 80, "protocol": "grpc"}],
    }
    a, b = translate.service_entry(typed(kinds.SERVICE_ENTRY, spec=spec))
    assert (a.service.hostname, a.service.key.hostname) == ("A.test", "a.test")
    assert [e.address for e in a.endpoints] == ["A.test"]
    assert b.endpoints == (), "a wildcard cannot be looked up"
    assert a.service.external


def test_service_entry_addresses_of_its_own_go_before_allocated_ones() -> None:
    status = {"addresses": [{"value": "240.240.0.1"}]}
    spec = {"hosts": ["a"], "addresses": ["192.0.2.0/24", "192.0.2.9/32", "nonsense"]}
    (own,) = translate.service_entry(typed(kinds.SERVICE_ENTRY, spec=spec, status=status))
    assert own.service.addresses == ("192.0.2.0/24", "192.0.2.9")
    assert own.service.resolution is Resolution.PASSTHROUGH
    (allocated,) = translate.service_entry(typed(kinds.SERVICE_ENTRY, spec={"hosts": ["a"]}, status=status))
    assert allocated.service.addresses == ("240.240.0.1",)


def test_endpoint_slice() -> None:
    endpoints = [
        {"addresses": ["10.0.0.1", "10.0.0.2"], "targetRef": {"kind": "Pod", "name": "p"}},
        {"addresses": ["10.0.0.3"], "conditions": {"ready": False}},
        {"addresses": []},
    ]
    labels = {"kubernetes.io/service-name": "web"}
    ports = [{"name": "http", "port": 80}, {"name": "any"}]
    found = translate.endpoint_slice(
        typed(kinds.ENDPOINT_SLICE, metadata={"labels": labels}, endpoints=endpoints, ports=ports)
    )
    assert found is not None
    assert found.ports == (("http", 80),)
    assert [(a.address, a.ready, a.pod) for a in found.addresses] == [
        ("10.0.0.1", True, WorkloadKey("ns", "p")),
        ("10.0.0.3", False, None),
    ]


def test_slices_that_say_nothing() -> None:
    assert translate.endpoint_slice(typed(kinds.ENDPOINT_SLICE)) is None
    labels = {"kubernetes.io/service-name": "web"}
    obj = typed(kinds.ENDPOINT_SLICE, metadata={"labels": labels}, addressType="FQDN")
    assert translate.endpoint_slice(obj) is None


def test_pod() -> None:
    containers = [{"name": "c", "ports": [{"name": "web", "containerPort": 80}, {"containerPort": 81}]}]
    obj = typed(
        kinds.POD,
        metadata={"labels": {"istio-locality": "eu.a.b"}},
        spec={"containers": containers},
        status={"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    )
    found = translate.pod(obj)
    assert found is not None
    assert (found.ports, found.locality, found.ready) == ((("web", 80),), "eu/a/b", True)
    assert found.service_account == "default"


def test_pods_without_an_address_of_their_own() -> None:
    assert translate.pod(typed(kinds.POD)) is None
    assert translate.pod(typed(kinds.POD, status={"podIP": "10.0.0.1", "phase": "Failed"})) is None
    assert translate.pod(typed(kinds.POD, spec={"hostNetwork": True}, status={"podIP": "10.0.0.1"})) is None
