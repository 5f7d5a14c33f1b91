import pytest

HTTPS = {"number": 443, "name": "https", "protocol": "HTTPS"}
FILES = {"serverCertificate": "/c", "privateKey": "/k"}


def a_server(**changes):
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"], **changes}
    return {"servers": [server]}


def secure(**tls):
    return a_server(port=HTTPS, tls=tls)


@pytest.mark.parametrize(
    "spec",
    [
        a_server(),
        a_server(hosts=["10.0.0.1", "./a.com", "*/*.a.com", "shop/*"]),
        a_server(tls={"httpsRedirect": True}),
        a_server(bind="unix:///run/x.sock", port={"number": 0, "name": "x", "protocol": "http2"}),
        secure(mode="PASSTHROUGH"),
        secure(mode="ISTIO_MUTUAL"),
        secure(mode="SIMPLE", credentialName="x"),
        secure(mode="MUTUAL", credentialName="x"),
        secure(mode="SIMPLE", **FILES),
        secure(mode="MUTUAL", caCertificates="/ca", caCrl="/crl", **FILES),
    ],
)
def test_what_istio_accepts_is_accepted(spec, faults):
    assert faults("gateway", spec) == {}


@pytest.mark.parametrize(
    ("spec", "path", "part"),
    [
        ({}, "spec.servers", "at least one"),
        (a_server(hosts=[]), "spec.servers[0].hosts", '"*" is any'),
        (a_server(hosts=["short"]), "spec.servers[0].hosts[0]", "short.default.svc.cluster.local"),
        (a_server(hosts=["a b"]), "spec.servers[0].hosts[0]", 'label "a b"'),
        (a_server(hosts=["a.*.com"]), "spec.servers[0].hosts[0]", 'label "*"'),
        (a_server(hosts=["*-a.com"]), "spec.servers[0].hosts[0]", "whole label"),
        (a_server(hosts=["a_b/a.com"]), "spec.servers[0].hosts[0]", "no namespace"),
        (a_server(hosts=["~/a.com"]), "spec.servers[0].hosts[0]", "no namespace"),
        (a_server(hosts=["/a.com"]), "spec.servers[0].hosts[0]", "empty"),
        (a_server(bind="x"), "spec.servers[0].bind", "IP address"),
        (a_server(bind="unix://x", port={**HTTPS, "number": 0, "protocol": "TCP"}), "spec.servers[0].bind", "absolute"),
        (a_server(bind="unix:///x"), "spec.servers[0].port.number", "write 0"),
        (a_server(port={"number": 0, "name": "x", "protocol": "TCP"}), "spec.servers[0].port.number", "65535"),
        (a_server(port={"number": 1, "name": "", "protocol": "TCP"}), "spec.servers[0].port.name", "needs a name"),
        (a_server(port={"number": 1, "name": "x", "protocol": "SMTP"}), "spec.servers[0].port.protocol", '"HTTP"'),
        (
            a_server(port={"number": 1, "name": "x", "protocol": "TCP", "targetPort": 2}),
            "spec.servers[0].port.targetPort",
            "leave it out",
        ),
        (a_server(port=HTTPS), "spec.servers[0].tls", "credentialName"),
        (a_server(tls={"mode": "SIMPLE", "credentialName": "x"}), "spec.servers[0].tls", "use protocol HTTPS"),
        (
            a_server(port={"number": 1, "name": "x", "protocol": "TCP"}, tls={}),
            "spec.servers[0].tls",
            "use protocol TLS",
        ),
        ({"servers": [*a_server()["servers"], *a_server()["servers"]]}, "spec.servers[1].port.name", "Duplicate"),
        (secure(mode="SIMPLE", serverCertificate="/c"), "spec.servers[0].tls.privateKey", "SIMPLE needs it"),
        (secure(mode="MUTUAL", **FILES), "spec.servers[0].tls.caCertificates", "MUTUAL checks"),
        (secure(mode="SIMPLE", caCrl="/crl", **FILES), "spec.servers[0].tls.caCrl", "mode MUTUAL"),
        (secure(mode="SIMPLE", credentialName="x", **FILES), "spec.servers[0].tls.credentialName", "one of them"),
        (
            secure(mode="SIMPLE", tlsCertificates=[{"privateKey": "/k"}]),
            "spec.servers[0].tls.tlsCertificates[0].serverCertificate",
            "needs it",
        ),
        (secure(mode="ISTIO_MUTUAL", credentialName="x"), "spec.servers[0].tls.credentialName", "mesh's certificates"),
    ],
)
def test_what_istio_refuses_is_refused_where_it_stands(spec, path, part, faults):
    found = faults("gateway", spec)
    assert list(found) == [path]
    assert part in found[path]


@pytest.mark.parametrize(
    ("tls", "path", "part"),
    [
        ({"minProtocolVersion": "TLSV1_0"}, "minProtocolVersion", "cipherSuites as well"),
        ({"cipherSuites": ["NONSENSE", "-ALL"]}, "cipherSuites[0]", "not known"),
        ({"cipherSuites": ["AES128-SHA", "AES128-SHA"]}, "cipherSuites[1]", "repeated"),
        ({"httpsRedirect": True}, "httpsRedirect", "protocol HTTP"),
        ({"caCrl": "/crl"}, "caCrl", "ca.crl"),
        ({"mode": "PASSTHROUGH"}, "credentialName", "ignored"),
    ],
)
def test_what_istio_warns_of(tls, path, part, warnings):
    found = warnings("gateway", secure(**{"mode": "SIMPLE", "credentialName": "x", **tls}))
    assert list(found) == [f"spec.servers[0].tls.{path}"]
    assert part in found[f"spec.servers[0].tls.{path}"]
