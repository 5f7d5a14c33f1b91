"""What DestinationRules put before the first byte: TLS, PROXY headers, tunnels."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotfish.api.demand import Demand, demand_name
from pilotfish.api.protos import NAME_TABLE_TYPE

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


def over_ads(name: str) -> dict[str, Any]:
    return {"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}}


def checks(roots: str) -> dict[str, Any]:
    return {"default_validation_context": {}, "validation_context_sds_secret_config": over_ads(roots)}


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
    checked = {"combined_validation_context": checks(f"file-root:{pki}/ca.pem")}
    assert context(client) == {"common_tls_context": {"tls_params": PARAMS, **checked}}
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
        combined = context(client)["common_tls_context"]["combined_validation_context"]
        validation = combined["default_validation_context"]
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
        "tls_certificate_sds_secret_configs": [over_ads(f"file-cert:{pki}/client.pem~{pki}/client-key.pem")],
        "combined_validation_context": checks(f"file-root:{pki}/ca.pem"),
    }
    mesh.apply(rule(f"{{tls: {{mode: MUTUAL, {files.replace(f'{pki}/ca.pem', 'system')}}}}}"))
    machines = {"trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"}}
    assert context(client)["common_tls_context"]["validation_context"] == machines


def test_files_are_read_again_when_they_change(mesh: Any, pki: Path) -> None:
    """Envoy watches the folders of those that are sent as secrets."""
    client = mesh.sidecar()
    files = f"clientCertificate: {pki}/client.pem, privateKey: {pki}/client-key.pem, caCertificates: {pki}/ca.pem"
    tls = f"tls: {{mode: MUTUAL, {files}}}"
    mesh.apply(ENTRY + "---" + rule(f"{{{tls}}}", f"subsets: [{{name: own, trafficPolicy: {{{tls}}}}}]"))
    pair, roots = f"file-cert:{pki}/client.pem~{pki}/client-key.pem", f"file-root:{pki}/ca.pem"
    assert client.names("secrets") == {pair, roots}
    assert client.get("secrets", pair)["tls_certificate"] == {
        "certificate_chain": {"filename": f"{pki}/client.pem"},
        "private_key": {"filename": f"{pki}/client-key.pem"},
        "watched_directory": {"path": str(pki)},
    }
    assert client.get("secrets", roots)["validation_context"] == {
        "trusted_ca": {"filename": f"{pki}/ca.pem"},
        "watched_directory": {"path": str(pki)},
    }
    mesh.apply(rule(f"{{tls: {{mode: SIMPLE, caCertificates: {pki}/ca.pem}}}}"))
    assert client.names("secrets") == {roots}
    mesh.delete("DestinationRule", "far")
    assert client.names("secrets") == set()


POD = """
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec: {containers: [{name: c, image: i}]}
status: {podIP: 10.0.0.9}
"""
SELECTED = "workloadSelector: {matchLabels: {app: client}}"


def secret(certificate: bytes, key: bytes, namespace: str = "default") -> str:
    data = {"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    return f"""
apiVersion: v1
kind: Secret
metadata: {{name: far, namespace: {namespace}}}
data: {encoded}
"""


def test_certificates_of_secrets_are_for_sidecars_that_a_rule_selects(mesh: Any, make_certificate: Any) -> None:
    certificate, key = make_certificate("far.test")
    client, other = mesh.sidecar(app="client"), mesh.sidecar("other", ip="10.0.0.8", app="client")
    mutual = "{tls: {mode: MUTUAL, credentialName: far}}"
    mesh.apply(POD + "---" + ENTRY + "---" + secret(certificate, key) + "---" + rule(mutual))
    assert socket(client) is None, "without a selector it is for gateways alone"
    mesh.apply(rule(mutual, SELECTED))
    assert context(client)["common_tls_context"] == {
        "tls_params": PARAMS,
        "tls_certificate_sds_secret_configs": [over_ads("kubernetes://far")],
        "combined_validation_context": checks("kubernetes://far-cacert"),
    }
    assert client.names("secrets") == {"kubernetes://far", "kubernetes://far-cacert"}
    sent = client.message("secrets", "kubernetes://far").tls_certificate
    assert (sent.certificate_chain.inline_bytes, sent.private_key.inline_bytes) == (certificate, key)
    assert (
        client.message("secrets", "kubernetes://far-cacert").validation_context.trusted_ca.inline_bytes == certificate
    )
    assert other.names("secrets") == set(), "nobody knows its workload, and what a proxy says of itself decides nothing"
    client.told()
    renewed, new_key = make_certificate("renewed.test")
    mesh.apply(secret(renewed, new_key))
    assert client.told() == {"secrets": {"kubernetes://far", "kubernetes://far-cacert"}}
    mesh.apply(rule("{tls: {mode: SIMPLE, credentialName: far}}", SELECTED))
    assert client.names("secrets") == {"kubernetes://far-cacert"}
    mesh.delete("Secret", "far")
    assert client.names("secrets") == set()
    mesh.apply(rule("{tls: {mode: MUTUAL, credentialName: far, insecureSkipVerify: true}}", SELECTED))
    assert "combined_validation_context" not in context(client)["common_tls_context"]


def test_whom_to_believe_can_be_in_a_config_map_for_everybody(mesh: Any, make_certificate: Any) -> None:
    certificate, _ = make_certificate("far.test")
    client = mesh.sidecar()
    authority = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "far"}}
    tls = "{tls: {mode: SIMPLE, credentialName: 'configmap://default/far'}}"
    mesh.apply(ENTRY + "---" + rule(tls))
    name = "configmap://default/far-cacert"
    assert context(client)["common_tls_context"]["combined_validation_context"] == checks(name)
    assert client.names("secrets") == set()
    mesh.apply(yaml.safe_dump(authority | {"data": {"ca.crt": certificate.decode()}}))
    assert client.message("secrets", name).validation_context.trusted_ca.inline_bytes == certificate
    mesh.apply(yaml.safe_dump(authority | {"data": {"else": ""}}))
    assert client.names("secrets") == set()


def test_certificates_of_secrets_on_demand(mesh: Any, make_certificate: Any) -> None:
    """They come with the clusters that need them, and not before; a lookup waits for them, too."""
    client = mesh.sidecar(metadata={"DNS_CAPTURE": "true"}, app="client")
    policy = rule("{tls: {mode: MUTUAL, credentialName: far}}", SELECTED).replace("far.test", "far")
    mesh.apply(POD + "---" + secret(*make_certificate("far.test")) + "---" + policy)
    mesh.apply("""
apiVersion: v1
kind: Service
metadata: {name: far}
spec: {clusterIP: 10.1.0.5, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {clusterIP: 10.1.0.6, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front}
spec: {hosts: [front], http: [{route: [{destination: {host: far}}]}]}
""")
    assert client.names("secrets") == set()
    asked = [demand_name(Demand("10.0.0.9", "front.default.svc.cluster.local"))]
    mesh.dns().config.asked(NAME_TABLE_TYPE, asked, [], [])
    assert "outbound|80||far.default.svc.cluster.local" in client.names("clusters")
    assert client.names("secrets") == {"kubernetes://far", "kubernetes://far-cacert"}
    selection = client.config.user.selection
    needed = {name for _, name in selection.needs("front.default.svc.cluster.local")}
    assert {"kubernetes://far", "kubernetes://far-cacert"} <= needed


def test_gateways_have_certificates_of_secrets_of_their_own_namespace(mesh: Any, make_certificate: Any) -> None:
    certificate, key = make_certificate("far.test")
    gateway = mesh.gateway()
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: out}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [far.test]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: out}
spec: {hosts: [far.test], gateways: [out], http: [{route: [{destination: {host: far.test, port: {number: 80}}}]}]}
""")
    policy = rule("{tls: {mode: MUTUAL, credentialName: far}}")
    mesh.apply(ENTRY + "---" + secret(certificate, key) + "---" + policy)
    assert context(gateway)["common_tls_context"]["combined_validation_context"] == checks("kubernetes://far-cacert")
    assert gateway.names("secrets") == set()
    mesh.apply(secret(certificate, key, "istio-system"))
    assert gateway.names("secrets") == {"kubernetes://far", "kubernetes://far-cacert"}
    mesh.delete("VirtualService", "out")
    assert gateway.names("secrets") == set()


def test_certificates_that_were_revoked(mesh: Any, pki: Path, revocations: bytes) -> None:
    (pki / "revoked.pem").write_bytes(revocations)
    client = mesh.sidecar()
    files = f"caCertificates: {pki}/ca.pem, caCrl: {pki}/revoked.pem"
    mesh.apply(ENTRY + "---" + rule(f"{{tls: {{mode: SIMPLE, {files}}}}}"))
    combined = context(client)["common_tls_context"]["combined_validation_context"]
    assert combined["default_validation_context"] == {"crl": {"filename": f"{pki}/revoked.pem"}}


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
