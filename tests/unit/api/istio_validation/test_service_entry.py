import pytest

from pilotfish.api.decode import decode
from pilotfish.api.errors import Invalid
from pilotfish.api.istio_validation import service_entry, service_entry_warnings
from pilotfish.api.kinds import SERVICE_ENTRY


def an_entry(**changes):
    """The walkthrough's entry, with fields of its spec replaced; None takes one away."""
    spec = {
        "hosts": ["AppMeshClient.mesh"],
        "location": "MESH_INTERNAL",
        "ports": [{"name": "grpc", "number": 50000, "protocol": "grpc"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "10.1.0.17"}],
        **changes,
    }
    spec = {name: value for name, value in spec.items() if value is not None}
    return decode(SERVICE_ENTRY, {"metadata": {"name": "meshb", "namespace": "default"}, "spec": spec})


def faults_in(**changes):
    try:
        return {fault.path: fault.message for fault in service_entry(an_entry(**changes))}
    except Invalid as refused:
        return {cause["field"]: cause["message"] for cause in refused.details["causes"]}


def port(number=80, name="http", protocol="HTTP", **more):
    return {"number": number, "name": name, "protocol": protocol, **more}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hosts": ["*.example.com"]},
        {"hosts": ["example.com."]},
        {"hosts": ["a.com", "b.com"], "ports": [port()]},
        {"hosts": ["a.com", "b.com"], "ports": [port(protocol="TCP")], "resolution": "NONE", "endpoints": None},
        {"addresses": ["10.0.0.0/24", "2001:db8::1", "10.1.2.3/24"]},
        {"endpoints": [{"address": "unix:///run/x.sock"}]},
        {"endpoints": [{"address": "unix://@x"}]},
        {"endpoints": None, "workloadSelector": {"labels": {"app": "x"}}},
        {"resolution": "DNS", "endpoints": [{"address": "backend.example.com", "ports": {"grpc": 1}}]},
        {"resolution": "DNS", "endpoints": None},
        {"exportTo": ["."]},
        {"exportTo": ["*"]},
        {"exportTo": ["~"]},
        {"exportTo": ["a", "b"]},
        {"ports": [port(targetPort=8080), port(81, "other", "")]},
        {"hosts": ["*.a.com"], "resolution": "DYNAMIC_DNS", "endpoints": None},
    ],
)
def test_what_istio_accepts_is_accepted(changes):
    assert faults_in(**changes) == {}


@pytest.mark.parametrize(
    ("changes", "path", "part"),
    [
        ({"hosts": None}, "spec.hosts", "at least one host"),
        ({"hosts": ["*"]}, "spec.hosts[0]", "*.example.com"),
        ({"hosts": ["a.*.com"]}, "spec.hosts[0]", 'label "*"'),
        ({"hosts": ["under_score.com"]}, "spec.hosts[0]", "under_score"),
        ({"hosts": ["10.0.0.1"]}, "spec.hosts[0]", "must not be a number"),
        ({"hosts": ["a" * 64 + ".com"]}, "spec.hosts[0]", "1 to 63"),
        ({"hosts": [""]}, "spec.hosts[0]", "empty"),
        ({"addresses": ["10.0.0.300"]}, "spec.addresses[0]", "an IP address or a range"),
        ({"addresses": ["10.0.0.0/8"], "resolution": "DNS"}, "spec.addresses[0]", "NONE or STATIC"),
        ({"ports": [port(name="")]}, "spec.ports[0].name", "needs a name"),
        ({"ports": [port(name="a_b")]}, "spec.ports[0].name", "letters"),
        ({"ports": [port(), port(81)]}, "spec.ports[1].name", "Duplicate"),
        ({"ports": [port(), port(name="x")]}, "spec.ports[1].number", "Duplicate"),
        ({"ports": [port(0)]}, "spec.ports[0].number", "1 to 65535"),
        ({"ports": [port(targetPort=70000)]}, "spec.ports[0].targetPort", "1 to 65535"),
        ({"ports": [port(protocol="SMTP")]}, "spec.ports[0].protocol", '"GRPC"'),
        ({"resolution": "STATIK"}, "spec.resolution", '"STATIC"'),
        ({"location": "INSIDE"}, "spec.location", '"MESH_INTERNAL"'),
        ({"resolution": "NONE"}, "spec.endpoints", "STATIC or DNS"),
        ({"endpoints": [{"address": "a.example.com"}]}, "spec.endpoints[0].address", "resolution DNS"),
        ({"endpoints": [{}]}, "spec.endpoints[0].address", "needs an address"),
        ({"endpoints": [{"address": "unix://x"}]}, "spec.endpoints[0].address", "absolute path"),
        ({"endpoints": [{"address": "10.0.0.1", "ports": {"http": 1}}]}, "spec.endpoints[0].ports[http]", '"grpc"'),
        ({"endpoints": [{"address": "10.0.0.1", "ports": {"grpc": 0}}]}, "spec.endpoints[0].ports[grpc]", "65535"),
        ({"endpoints": [{"address": "10.0.0.1", "labels": {"a b": "c"}}]}, "spec.endpoints[0].labels", "label"),
        ({"workloadSelector": {"labels": {"a": "b"}}}, "spec.workloadSelector", "not both"),
        (
            {"endpoints": None, "workloadSelector": {"labels": {"a": "*"}}},
            "spec.workloadSelector.labels",
            "without wildcards",
        ),
        ({"hosts": ["*.a.com"], "resolution": "DNS", "endpoints": None}, "spec.hosts[0]", "add endpoints"),
        (
            {"resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "a.b"}, {"address": "c.d"}]},
            "spec.endpoints",
            "one endpoint at most",
        ),
        ({"exportTo": ["a", "a"]}, "spec.exportTo[1]", "Duplicate"),
        ({"exportTo": ["a", "*"]}, "spec.exportTo[1]", "only entry"),
        ({"exportTo": [".", "default"]}, "spec.exportTo[1]", "Duplicate"),
        ({"exportTo": ["A B"]}, "spec.exportTo[0]", "namespace"),
        ({"hosts": ["a.com", "b.com"], "ports": [port(protocol="TCP")]}, "spec.ports[0].protocol", "share"),
        ({"hosts": ["a.com"], "resolution": "DYNAMIC_DNS", "endpoints": None}, "spec.hosts[0]", "wildcards"),
    ],
)
def test_what_istio_refuses_is_refused_where_it_stands(changes, path, part):
    faults = faults_in(**changes)
    assert list(faults) == [path]
    assert part in faults[path]


def test_every_fault_is_told_at_once():
    assert len(faults_in(hosts=["*"], ports=[port(0)], exportTo=["A B"])) == 3


def test_what_istio_warns_of():
    entry = an_entry(hosts=["*-a.com"], resolution="NONE", endpoints=None, workloadSelector={})
    said = [(one.path, one.message) for one in service_entry_warnings(entry)]
    assert [path for path, _ in said] == ["spec.workloadSelector", "spec.workloadSelector", "spec.hosts[0]"]
    assert "is ignored" in said[1][1]
    assert list(service_entry_warnings(an_entry())) == []
