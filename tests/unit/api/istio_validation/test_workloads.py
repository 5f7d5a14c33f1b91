import pytest


def group(**probe):
    return {"template": {}, "probe": probe}


@pytest.mark.parametrize("spec", [{"address": "::1"}, {"address": "a.example.com"}, {"address": "unix:///run/x"}])
def test_an_address_of_every_form_is_accepted(spec, faults):
    assert faults("workloadentry", spec) == {}


@pytest.mark.parametrize(
    ("spec", "path", "part"),
    [
        ({}, "spec.address", "a network"),
        ({"address": "a_b"}, "spec.address", "IP address or a host"),
        ({"address": "unix://x"}, "spec.address", "absolute"),
        ({"address": "unix:///x", "ports": {"a": 1}}, "spec.ports", "no ports"),
        ({"address": "::1", "ports": {"a_b": 1}}, "spec.ports[a_b]", "letters"),
        ({"address": "::1", "ports": {"a": 0}}, "spec.ports[a]", "65535"),
        ({"address": "::1", "labels": {"a": "b c"}}, "spec.labels", "label"),
    ],
)
def test_what_istio_refuses_of_an_entry_is_refused_where_it_stands(spec, path, part, faults):
    found = faults("workloadentry", spec)
    assert list(found) == [path]
    assert part in found[path]


def test_an_entry_without_an_address_is_reached_through_its_network(warnings):
    assert 'network "vm"' in warnings("workloadentry", {"network": "vm"})["spec.address"]


@pytest.mark.parametrize(
    ("spec", "path", "part"),
    [
        (group(), "spec.probe", "grpc"),
        (group(periodSeconds=-1, tcpSocket={"port": 1}), "spec.probe.periodSeconds", "at least 0"),
        (group(tcpSocket={"port": 0}), "spec.probe.tcpSocket.port", "65535"),
        (group(grpc={"port": 0}), "spec.probe.grpc.port", "65535"),
        (group(exec={"command": [""]}), "spec.probe.exec.command", "program"),
        (group(httpGet={"port": 0}), "spec.probe.httpGet.port", "65535"),
        (group(httpGet={"port": 1, "scheme": "FTP"}), "spec.probe.httpGet.scheme", '"HTTPS"'),
        (group(httpGet={"port": 1, "httpHeaders": [{"name": "a b"}]}), "spec.probe.httpGet.httpHeaders[0].name", "-"),
        (group(httpGet={"port": 1}, tcpSocket={"port": 1}), "spec.probe.tcpSocket", "only one of"),
        ({"template": {}, "metadata": {"labels": {"": ""}}}, "spec.metadata.labels", "label"),
        ({"template": {"ports": {"a": 0}}}, "spec.template.ports[a]", "65535"),
    ],
)
def test_what_istio_refuses_of_a_group_is_refused_where_it_stands(spec, path, part, faults):
    found = faults("workloadgroup", spec)
    assert list(found) == [path]
    assert part in found[path]
