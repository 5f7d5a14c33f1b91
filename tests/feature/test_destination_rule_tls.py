"""What DestinationRules put before the first byte: TLS, PROXY headers, tunnels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far}
spec:
  hosts: [far.test]
  addresses: [10.1.0.5]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 90, name: grpc, protocol: GRPC}
  - {number: 100, name: tcp, protocol: TCP}
  resolution: STATIC
  endpoints: [{address: 10.0.0.21}]
"""
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
PARAMS = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}


def rule(policy: str, more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: far}}
spec:
  host: far.test
  trafficPolicy: {policy}
  {more}
"""


def socket(proxy: Any, port: int = 80, subset: str = "") -> Any:
    return proxy.get("clusters", f"outbound|{port}|{subset}|far.test").get("transport_socket")


def context(proxy: Any, port: int = 80) -> Any:
    found = socket(proxy, port)
    assert found["name"] == "envoy.transport_sockets.tls"
    return {name: value for name, value in found["typed_config"].items() if name != "@type"}


def from_requests(proxy: Any) -> Any:
    options = proxy.get("clusters", "outbound|80||far.test").get("typed_extension_protocol_options", {})
    return options.get(HTTP, {}).get("upstream_http_protocol_options", {})


@pytest.fixture
def pki(tmp_path: Path, make_certificate: Any) -> Path:
    certificate, key = make_certificate("far.test")
    (tmp_path / "ca.pem").write_bytes(certificate)
    (tmp_path / "client.pem").write_bytes(certificate)
    (tmp_path / "client-key.pem").write_bytes(key)
    return tmp_path


def test_one_side(mesh: Any, pki: Path) -> None:
    client = mesh.sidecar()
    mesh.apply(ENTRY + "---" + rule("{tls: {mode: DISABLE}}"))
    assert socket(client) is None
    mesh.apply(rule(f"{{tls: {{mode: SIMPLE, caCertificates: {pki}/ca.pem}}}}"))
    believed = {"trusted_ca": {"filename": f"{pki}/ca.pem"}}
    assert context(client) == {"common_tls_context": {"tls_params": PARAMS, "validation_context": believed}}
    assert context(client, 90)["common_tls_context"]["alpn_protocols"] == ["h2"]
    assert from_requests(client) == {"auto_sni": True, "auto_san_validation": True}
    mesh.delete("DestinationRule", "far")
    assert socket(client) is None
    assert from_requests(client) == {}


def test_names(mesh: Any, pki: Path) -> None:
    client = mesh.sidecar()
    tls = f"mode: SIMPLE, caCertificates: {pki}/ca.pem"
    mesh.apply(ENTRY + "---" + rule(f"{{tls: {{{tls}, sni: other.test, subjectAltNames: [a.test, 'spiffe://x/y']}}}}"))

    def names() -> Any:
        validation = context(client)["common_tls_context"]["validation_context"]
        return [(n["san_type"], n["matcher"]["exact"]) for n in validation.get("match_typed_subject_alt_names", ())]

    assert context(client)["sni"] == "other.test"
    assert names() == [("DNS", "a.test"), ("URI", "spiffe://x/y")]
    assert from_requests(client) == {}
    mesh.apply(rule(f"{{tls: {{{tls}, subjectAltNames: [a.test]}}}}"))
    assert from_requests(client) == {"auto_sni": True}
    named = ENTRY.replace("resolution:", "subjectAltNames: [b.test]\n  resolution:")
    mesh.apply(named + "---" + rule(f"{{tls: {{{tls}}}}}"))
    assert names() == [("DNS", "b.test")]


def test_a_server_that_is_not_checked(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(ENTRY + "---" + rule("{tls: {mode: SIMPLE, insecureSkipVerify: true}}"))
    assert context(client) == {"common_tls_context": {"tls_params": PARAMS}}
    assert from_requests(client) == {"auto_sni": True}


def test_both_sides(mesh: Any, pki: Path) -> None:
    client = mesh.sidecar()
    mesh.configure("tlsDefaults: {cipherSuites: [ECDHE-ECDSA-AES256-GCM-SHA384], ecdhCurves: [P-256]}")
    files = f"clientCertificate: {pki}/client.pem, privateKey: {pki}/client-key.pem, caCertificates: {pki}/ca.pem"
    mesh.apply(ENTRY + "---" + rule(f"{{tls: {{mode: MUTUAL, {files}, sni: far.test}}}}"))
    assert context(client)["common_tls_context"] == {
        "tls_params": {**PARAMS, "cipher_suites": ["ECDHE-ECDSA-AES256-GCM-SHA384"], "ecdh_curves": ["P-256"]},
        "tls_certificates": [
            {
                "certificate_chain": {"filename": f"{pki}/client.pem"},
                "private_key": {"filename": f"{pki}/client-key.pem"},
            }
        ],
        "validation_context": {"trusted_ca": {"filename": f"{pki}/ca.pem"}},
    }


def test_certificates_that_were_revoked(mesh: Any, pki: Path, revocations: bytes) -> None:
    (pki / "revoked.pem").write_bytes(revocations)
    client = mesh.sidecar()
    files = f"caCertificates: {pki}/ca.pem, caCrl: {pki}/revoked.pem"
    mesh.apply(ENTRY + "---" + rule(f"{{tls: {{mode: SIMPLE, {files}}}}}"))
    assert context(client)["common_tls_context"]["validation_context"] == {
        "trusted_ca": {"filename": f"{pki}/ca.pem"},
        "crl": {"filename": f"{pki}/revoked.pem"},
    }


def test_ports_and_subsets(mesh: Any) -> None:
    client = mesh.sidecar()
    tls = "tls: {mode: SIMPLE, insecureSkipVerify: true}"
    subset = f"subsets: [{{name: own, trafficPolicy: {{{tls}}}}}]"
    mesh.apply(ENTRY + "---" + rule(f"{{portLevelSettings: [{{port: {{number: 90}}, {tls}}}]}}", subset))
    assert [socket(client, port) is not None for port in (80, 90, 100)] == [False, True, False]
    assert socket(client, 80, "own") is not None


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_proxy_headers(mesh: Any, version: str) -> None:
    client = mesh.sidecar()
    mesh.apply(ENTRY + "---" + rule(f"{{proxyProtocol: {{version: {version}}}}}"))
    expected = {"version": version} if version == "V2" else {}

    def told() -> tuple[Any, str]:
        found = socket(client)
        assert found["name"] == "envoy.transport_sockets.upstream_proxy_protocol"
        return found["typed_config"]["config"], found["typed_config"]["transport_socket"]["name"]

    assert told() == (expected, "envoy.transport_sockets.raw_buffer")
    tls = "tls: {mode: SIMPLE, insecureSkipVerify: true}"
    mesh.apply(rule(f"{{proxyProtocol: {{version: {version}}}, {tls}}}"))
    assert told() == (expected, "envoy.transport_sockets.tls")


@pytest.mark.parametrize(
    ("tunnel", "expected"),
    [
        ("{targetHost: far.away.test, targetPort: 443}", {"hostname": "far.away.test:443"}),
        ("{protocol: CONNECT, targetHost: 10.9.9.9, targetPort: 1}", {"hostname": "10.9.9.9:1"}),
        ("{protocol: POST, targetHost: 'fd00::1', targetPort: 2}", {"hostname": "[fd00::1]:2", "use_post": True}),
    ],
)
def test_tunnels(mesh: Any, tunnel: str, expected: Any) -> None:
    client = mesh.sidecar()

    def tunnelled() -> Any:
        chain = client.get("listeners", "10.1.0.5_100")["filter_chains"][0]
        return chain["filters"][0]["typed_config"].get("tunneling_config")

    mesh.apply(ENTRY)
    assert tunnelled() is None
    mesh.apply(rule(f"{{tunnel: {tunnel}}}"))
    assert tunnelled() == expected
