"""What a change of objects touches, and nothing more."""

from __future__ import annotations

from typing import Any

from pilotfish.api import kinds
from pilotfish.api.decode import decode
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import HostKey, WorkloadKey

WEB = HostKey("ns", "web.ns.svc.cluster.local")


def service(**spec: Any) -> Any:
    spec = {"clusterIP": "10.1.0.1", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}], **spec}
    return decode(kinds.SERVICE, {"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})


def slice_(*addresses: str, pod: str = "") -> Any:
    ref = {"targetRef": {"kind": "Pod", "name": pod}} if pod else {}
    return decode(
        kinds.ENDPOINT_SLICE,
        {
            "metadata": {"name": "web-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [a], **ref} for a in addresses],
        },
    )


def pod(**labels: str) -> Any:
    return decode(
        kinds.POD,
        {"metadata": {"name": "p", "namespace": "ns", "labels": labels}, "status": {"podIP": "10.0.0.1"}},
    )


def test_an_object_again_touches_nothing() -> None:
    model = Model()
    assert set(model.apply([(None, service())]).hosts) == {WEB}
    assert not model.apply([(service(), service())])
    before, after = model.apply([(service(), service(ports=[]))]).hosts[WEB]
    assert before is not None and len(before.service.ports) == 1
    assert after is not None and after.service.ports == ()


def test_a_batch_that_undoes_itself_touches_nothing() -> None:
    model = Model()
    assert not model.apply([(None, service()), (service(), None), (None, pod()), (pod(), None)])
    assert list(model.hosts()) == list(model.host_names()) == []


def test_endpoints_know_their_workload() -> None:
    model = Model()
    model.apply([(None, service()), (None, slice_("10.0.0.1", pod="p"))])
    touched = model.apply([(None, pod(app="web", version="v1"))])
    assert set(touched.hosts) == {WEB}
    assert set(touched.workloads) == {WorkloadKey("ns", "p")}
    host = model.host(WEB)
    assert host is not None
    assert host.serving(host.service.ports[0])[0].labels == (("app", "web"), ("version", "v1"))
    assert not model.apply([(pod(app="web", version="v1"), pod(app="web", version="v1"))])


def test_kinds_of_no_concern_are_ignored() -> None:
    event = decode(kinds.EVENT, {"metadata": {"name": "x", "namespace": "ns"}})
    assert not Model().apply([(None, event)])


def test_a_deleted_service_leaves_nothing_and_its_slices_wait() -> None:
    model = Model()
    model.apply([(None, service()), (None, slice_("10.0.0.1"))])
    assert model.apply([(service(), None)]).hosts[WEB][1] is None
    assert model.host(WEB) is None
    assert model.seen_from("ns", WEB.hostname) is None
    model.apply([(None, service())])
    host = model.host(WEB)
    assert host is not None and [e.address for e in host.serving(host.service.ports[0])] == ["10.0.0.1"]


def test_slices_of_a_service_without_selector_name_their_workloads() -> None:
    model = Model()
    model.apply([(None, service(selector={})), (None, slice_("10.0.0.7"))])
    assert [t.number for t in model.targets("other", (), "10.0.0.7", None)] == [8080]
    assert model.targets("ns", (("app", "web"),), "10.0.0.8", None) == ()


def test_targets_of_a_selected_workload() -> None:
    model = Model()
    model.apply([(None, service())])
    assert [t.number for t in model.targets("ns", (("app", "web"), ("v", "1")), "10.0.0.7", None)] == [80]
    assert model.targets("other", (("app", "web"),), "10.0.0.7", None) == ()
