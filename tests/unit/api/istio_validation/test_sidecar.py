import pytest

ALL = {"hosts": ["*/*"]}


def ingress(**changes):
    return {"ingress": [{"port": {"number": 8080, "protocol": "HTTP", "name": "http"}, **changes}]}


def served(**tls):
    files = {"mode": "SIMPLE", "serverCertificate": "/c", "privateKey": "/k"}
    return ingress(port={"number": 8443, "protocol": "TLS"}, tls={**files, **tls})


@pytest.mark.parametrize(
    "spec",
    [
        {"egress": [ALL]},
        {"egress": [{"hosts": ["./*", "~shop/a.com", "*/*.a.com"]}]},
        {"egress": [{"port": {"number": 0, "protocol": "TCP"}, "bind": "unix:///run/x", "hosts": ["./*"]}, ALL]},
        {"outboundTrafficPolicy": {}},
        {"inboundConnectionPool": {"tcp": {}}},
        *(ingress(defaultEndpoint=text) for text in (":80", "127.0.0.1:80", "[::1]:80", "unix:///x", "unix://@x")),
        served(),
    ],
)
def test_what_istio_accepts_is_accepted(spec, faults):
    assert faults("sidecar", spec) == {}


@pytest.mark.parametrize(
    ("spec", "path", "part"),
    [
        ({}, "spec", "at least one of"),
        ({"egress": [ALL], "workloadSelector": {"labels": {"": "x"}}}, "spec.workloadSelector.labels", "wildcards"),
        ({"inboundConnectionPool": {}}, "spec.inboundConnectionPool", "tcp or http"),
        (ingress(port={"number": 0}), "spec.ingress[0].port.number", "65535"),
        (ingress(port={"number": 1, "name": "a_b"}), "spec.ingress[0].port.name", "letters"),
        (ingress(port={"number": 1, "protocol": "X"}), "spec.ingress[0].port.protocol", '"HTTP"'),
        (ingress(port={"number": 1, "targetPort": 2}), "spec.ingress[0].port.targetPort", "defaultEndpoint"),
        ({"ingress": ingress()["ingress"] * 2}, "spec.ingress[1].port.number", "Duplicate"),
        (ingress(bind="x"), "spec.ingress[0].bind", "IP address"),
        (ingress(connectionPool={}), "spec.ingress[0].connectionPool", "tcp or http"),
        *(
            (ingress(defaultEndpoint=text), "spec.ingress[0].defaultEndpoint", part)
            for text, part in (
                ("10.0.0.1:80", "127.0.0.1:<port>"),
                ("127.0.0.1", "127.0.0.1:<port>"),
                (":http", "127.0.0.1:<port>"),
                (":0", "65535"),
                ("unix://x", "absolute"),
            )
        ),
        (served(httpsRedirect=True), "spec.ingress[0].tls.httpsRedirect", "does not have it"),
        (served(subjectAltNames=["a"]), "spec.ingress[0].tls.subjectAltNames", "does not have it"),
        (served(mode="AUTO_PASSTHROUGH"), "spec.ingress[0].tls.mode", "PASSTHROUGH, SIMPLE"),
        (served(privateKey=""), "spec.ingress[0].tls.privateKey", "SIMPLE needs it"),
        (
            ingress(tls={"mode": "SIMPLE", "serverCertificate": "/c", "privateKey": "/k"}),
            "spec.ingress[0].tls",
            "HTTPS or TLS",
        ),
        ({"egress": [ALL, ALL]}, "spec.egress[0].port", "last listener"),
        ({"egress": [{"hosts": []}]}, "spec.egress[0].hosts", "*/*"),
        ({"egress": [{"hosts": ["a.com"]}]}, "spec.egress[0].hosts[0]", "<namespace>/<host>"),
        ({"egress": [{"hosts": ["./10.0.0.1"]}]}, "spec.egress[0].hosts[0]", "number"),
        (
            {"egress": [{**ALL, "port": {"number": 1}}, {**ALL, "port": {"number": 1}}]},
            "spec.egress[1].port.number",
            "",
        ),
        ({"egress": [{**ALL, "port": {"number": 1}, "bind": "x"}]}, "spec.egress[0].bind", "IP address"),
        ({"egress": [{**ALL, "port": {}}]}, "spec.egress[0].bind", "unix://"),
        (
            {"egress": [{**ALL, "port": {}, "bind": "unix:///x", "captureMode": "IPTABLES"}]},
            "spec.egress[0].captureMode",
            "NONE",
        ),
        (
            {"egress": [{**ALL, "port": {}, "bind": "unix:///x"}, {**ALL, "port": {}, "bind": "unix:///x"}]},
            "spec.egress[1].bind",
            "Duplicate",
        ),
        (
            {"outboundTrafficPolicy": {"egressProxy": {"host": "a.b", "port": {"number": 1}}}},
            "spec.outboundTrafficPolicy.egressProxy",
            "ALLOW_ANY",
        ),
        (
            {"outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": {"host": "a.b"}}},
            "spec.outboundTrafficPolicy.egressProxy.port",
            "which port",
        ),
        (
            {"outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": {"host": "*.b", "port": {"number": 1}}}},
            "spec.outboundTrafficPolicy.egressProxy.host",
            "label",
        ),
    ],
)
def test_what_istio_refuses_is_refused_where_it_stands(spec, path, part, faults):
    found = faults("sidecar", spec)
    assert list(found) == [path]
    assert part in found[path]


@pytest.mark.parametrize(
    ("spec", "path", "part"),
    [
        ({"egress": [ALL], "workloadSelector": {}}, "spec.workloadSelector", "all workloads"),
        ({"egress": [{"hosts": ["./a.com", "shop/a.com"]}]}, "spec.egress[0].hosts[1]", "has already"),
        ({"egress": [{"hosts": ["./a.com", "./*"]}]}, "spec.egress[0].hosts[1]", "the reverse"),
        ({"egress": [{"hosts": ["*/*", "./a.com"]}]}, "spec.egress[0].hosts", "all hosts"),
        (
            ingress(port={"number": 1, "protocol": "TCP"}, connectionPool={"http": {}}),
            "spec.ingress[0].connectionPool.http",
            "only tcp",
        ),
        (served(cipherSuites=["X"]), "spec.ingress[0].tls.cipherSuites[0]", "not known"),
    ],
)
def test_what_istio_warns_of(spec, path, part, warnings):
    found = warnings("sidecar", spec)
    assert list(found) == [path]
    assert part in found[path]
