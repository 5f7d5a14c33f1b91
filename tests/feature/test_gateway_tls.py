"""Servers of gateways that end TLS: certificates from Secrets and files, clients' certificates, versions, ciphers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: web, namespace: default}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: 443, name: https, protocol: {protocol}}}
    hosts: [web.example.com, {host}]
    tls: {{{tls}}}
"""
ROUTED = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web.example.com]
  gateways: [web]
  http:
  - route: [{destination: {host: web.default.svc.cluster.local, port: {number: 8000}}}]
"""
ROUTE = "https.443.https.web.default"


def gateway_yaml(tls: str, protocol: str = "HTTPS", host: str = '"*.example.org"') -> str:
    return GATEWAY.format(tls=tls, protocol=protocol, host=host)


def secret_yaml(name: str, namespace: str = "istio-system", **data: bytes) -> str:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return f"""
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: {namespace}}}
data: {encoded}
"""


def the_chain(gateway: Any, listener: str = "0.0.0.0_443") -> Any:
    (chain,) = gateway.get("listeners", listener)["filter_chains"]
    return chain


def the_context(gateway: Any) -> Any:
    return the_chain(gateway)["transport_socket"]["typed_config"]


def over_ads(name: str) -> dict[str, Any]:
    return {"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}}


def test_a_server_shows_the_certificate_of_a_secret(mesh: Any, make_certificate: Any) -> None:
    certificate, key = make_certificate("web.example.com")
    gateway = mesh.gateway()
    mesh.apply(gateway_yaml("mode: SIMPLE, credentialName: web-tls"))
    mesh.apply(ROUTED)
    listener = gateway.get("listeners", "0.0.0.0_443")
    assert [found["name"] for found in listener["listener_filters"]] == ["envoy.filters.listener.tls_inspector"]
    chain = the_chain(gateway)
    assert chain["filter_chain_match"] == {"server_names": ["*.example.org", "web.example.com"]}
    assert chain["transport_socket_connect_timeout"] == "15s"
    manager = chain["filters"][0]["typed_config"]
    assert manager["rds"]["route_config_name"] == ROUTE
    assert gateway.get("routes", ROUTE)["virtual_hosts"][0]["name"] == "web.example.com:443"
    assert the_context(gateway) == {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [over_ads("kubernetes://web-tls")],
        },
        "require_client_certificate": False,
    }
    assert gateway.names("secrets") == set(), "there is no such Secret yet"
    gateway.told()
    mesh.apply(secret_yaml("web-tls", tls_crt=certificate, tls_key=key))
    assert gateway.told() == {"secrets": {"kubernetes://web-tls"}}, "the listener need not change"
    held = gateway.message("secrets", "kubernetes://web-tls").tls_certificate
    assert (held.certificate_chain.inline_bytes, held.private_key.inline_bytes) == (certificate, key)


def test_a_secret_that_is_renewed_is_sent_again(mesh: Any, make_certificate: Any) -> None:
    first, second = make_certificate("a"), make_certificate("b")
    gateway = mesh.gateway()
    mesh.apply(gateway_yaml("mode: SIMPLE, credentialName: web"))
    mesh.apply(secret_yaml("web", tls_crt=first[0], tls_key=first[1]))
    gateway.told()
    mesh.apply(secret_yaml("web", cert=second[0], key=second[1]))
    assert gateway.told() == {"secrets": {"kubernetes://web"}}
    held = gateway.message("secrets", "kubernetes://web").tls_certificate
    assert held.certificate_chain.inline_bytes == second[0]
    mesh.apply(secret_yaml("web", cert=second[0], key=second[1]).replace("\ndata:", "\ntype: Opaque\ndata:"))
    assert gateway.told() == {}


def test_secrets_are_those_of_the_gateways_namespace_and_only_the_named(mesh: Any, make_certificate: Any) -> None:
    certificate, key = make_certificate("a")
    gateway, other = mesh.gateway(), mesh.gateway("edge", "team", "istio: edge")
    mesh.apply(gateway_yaml("mode: SIMPLE, credentialName: web"))
    mesh.apply(secret_yaml("web", "default", cert=certificate, key=key))
    mesh.apply(secret_yaml("other", cert=certificate, key=key))
    assert gateway.names("secrets") == other.names("secrets") == set()
    mesh.apply(secret_yaml("web", cert=certificate, key=key))
    assert (gateway.names("secrets"), other.names("secrets")) == ({"kubernetes://web"}, set())
    mesh.delete("Secret", "web", "istio-system")
    assert gateway.names("secrets") == set()


@pytest.mark.parametrize(("mode", "required"), [("MUTUAL", True), ("OPTIONAL_MUTUAL", False)])
def test_clients_are_asked_for_certificates(mesh: Any, make_certificate: Any, mode: str, required: bool) -> None:
    certificate, key = make_certificate("a")
    gateway = mesh.gateway()
    more = "subjectAltNames: [client.example.com, spiffe://td/ns/a/sa/b, 10.0.0.1, a@b.c]"
    hashed = f"verifyCertificateHash: [{'ab' * 32}], verifyCertificateSpki: [{base64.b64encode(b'x' * 32).decode()}]"
    mesh.apply(gateway_yaml(f"mode: {mode}, credentialName: web, {more}, {hashed}"))
    mesh.apply(secret_yaml("web", cert=certificate, key=key, cacert=certificate))
    context = the_context(gateway)
    assert context["require_client_certificate"] is required
    combined = context["common_tls_context"]["combined_validation_context"]
    assert combined["validation_context_sds_secret_config"] == over_ads("kubernetes://web-cacert")
    validation = combined["default_validation_context"]
    assert [(each["san_type"], each["matcher"]["exact"]) for each in validation["match_typed_subject_alt_names"]] == [
        ("DNS", "client.example.com"),
        ("URI", "spiffe://td/ns/a/sa/b"),
        ("IP_ADDRESS", "10.0.0.1"),
        ("EMAIL", "a@b.c"),
    ]
    assert validation["verify_certificate_hash"] == ["ab" * 32]
    assert len(validation["verify_certificate_spki"]) == 1
    assert gateway.names("secrets") == {"kubernetes://web", "kubernetes://web-cacert"}
    roots = gateway.message("secrets", "kubernetes://web-cacert").validation_context
    assert roots.trusted_ca.inline_bytes == certificate


def test_roots_can_come_from_a_secret_of_their_own(mesh: Any, make_certificate: Any) -> None:
    certificate, key = make_certificate("a")
    root, _ = make_certificate("root")
    gateway = mesh.gateway()
    mesh.apply(gateway_yaml("mode: MUTUAL, credentialName: web"))
    mesh.apply(secret_yaml("web", cert=certificate, key=key, cacert=certificate))
    gateway.told()
    mesh.apply(secret_yaml("web-cacert", cacert=root))
    assert gateway.told() == {"secrets": {"kubernetes://web-cacert"}}
    held = gateway.message("secrets", "kubernetes://web-cacert").validation_context
    assert held.trusted_ca.inline_bytes == root
    mesh.apply(gateway_yaml("mode: MUTUAL, credentialName: web, caCertCredentialName: authorities"))
    mesh.apply(secret_yaml("authorities", ca_crt=root))
    assert gateway.names("secrets") == {"kubernetes://web", "kubernetes://authorities-cacert"}


def test_a_server_can_have_two_certificates(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply(gateway_yaml("mode: MUTUAL, credentialNames: [rsa, ec]"))
    common = the_context(gateway)["common_tls_context"]
    names = [each["name"] for each in common["tls_certificate_sds_secret_configs"]]
    assert names == ["kubernetes://rsa", "kubernetes://ec"]
    roots = common["combined_validation_context"]["validation_context_sds_secret_config"]
    assert roots["name"] == "kubernetes://rsa-cacert"


def test_versions_and_ciphers(mesh: Any) -> None:
    gateway = mesh.gateway()
    chosen = "minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384]"
    mesh.apply(gateway_yaml(f"mode: SIMPLE, credentialName: web, {chosen}"))
    assert the_context(gateway)["common_tls_context"]["tls_params"] == {
        "tls_minimum_protocol_version": "TLSv1_2",
        "tls_maximum_protocol_version": "TLSv1_3",
        "cipher_suites": ["ECDHE-RSA-AES256-GCM-SHA384"],
    }


def test_certificates_can_be_files_of_the_pod(mesh: Any, make_certificate: Any, tmp_path: Path) -> None:
    certificate, key = make_certificate("a")
    for name, content in (("cert", certificate), ("key", key), ("roots", certificate)):
        (tmp_path / name).write_bytes(content)
    gateway = mesh.gateway()
    files = f"serverCertificate: {tmp_path}/cert, privateKey: {tmp_path}/key, caCertificates: {tmp_path}/roots"
    mesh.apply(gateway_yaml(f"mode: MUTUAL, {files}"))
    pair, roots = f"file-cert:{tmp_path}/cert~{tmp_path}/key", f"file-root:{tmp_path}/roots"
    assert gateway.names("secrets") == {pair, roots}
    common = the_context(gateway)["common_tls_context"]
    assert common["tls_certificate_sds_secret_configs"] == [over_ads(pair)]
    assert common["combined_validation_context"]["validation_context_sds_secret_config"] == over_ads(roots)
    assert gateway.get("secrets", pair)["tls_certificate"] == {
        "certificate_chain": {"filename": f"{tmp_path}/cert"},
        "private_key": {"filename": f"{tmp_path}/key"},
        "watched_directory": {"path": str(tmp_path)},
    }
    assert gateway.get("secrets", roots)["validation_context"]["trusted_ca"] == {"filename": f"{tmp_path}/roots"}
    several = f"{{serverCertificate: {tmp_path}/cert, privateKey: {tmp_path}/key}}"
    mesh.apply(gateway_yaml(f"mode: SIMPLE, tlsCertificates: [{several}]"))
    assert gateway.names("secrets") == {pair}


def test_the_meshs_own_certificates(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply(gateway_yaml("mode: ISTIO_MUTUAL"))
    context = the_context(gateway)
    assert context["require_client_certificate"] is True
    common = context["common_tls_context"]
    (own,) = common["tls_certificate_sds_secret_configs"]
    assert own["name"] == "default"
    assert own["sds_config"]["path_config_source"]["path"] == "/run/pilotfish/proxy/sds-default.json"
    roots = common["combined_validation_context"]["validation_context_sds_secret_config"]
    assert roots["name"] == "ROOTCA"
    assert gateway.names("secrets") == set()


def test_any_name_needs_no_match(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply(gateway_yaml("mode: SIMPLE, credentialName: web", host='"*"'))
    assert "filter_chain_match" not in the_chain(gateway)


def test_servers_with_tls_share_a_port_by_name(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.apply(gateway_yaml("mode: SIMPLE, credentialName: web"))
    second = gateway_yaml("mode: MUTUAL, credentialName: shop", host="x.shop.org").replace("name: web", "name: shop")
    mesh.apply(second.replace("web.example.com", "shop.org"))
    chains = gateway.get("listeners", "0.0.0.0_443")["filter_chains"]
    assert [chain["filter_chain_match"]["server_names"] for chain in chains] == [
        ["shop.org", "x.shop.org"],
        ["*.example.org", "web.example.com"],
    ]
    assert gateway.names("routes") == {ROUTE, "https.443.https.shop.default"}


def test_what_the_mesh_says_of_tls_holds_where_a_server_says_nothing(mesh: Any) -> None:
    gateway = mesh.gateway()
    mesh.configure("tlsDefaults: {minProtocolVersion: TLSV1_3, ecdhCurves: [P-256], cipherSuites: [AES256-GCM-SHA384]}")
    mesh.apply(
        gateway_yaml("mode: SIMPLE, credentialName: web, cipherSuites: [AES128-GCM-SHA256, AES128-GCM-SHA256, X]")
    )
    assert the_context(gateway)["common_tls_context"]["tls_params"] == {
        "tls_minimum_protocol_version": "TLSv1_3",
        "cipher_suites": ["AES128-GCM-SHA256"],
        "ecdh_curves": ["P-256"],
    }
    mesh.apply(gateway_yaml("mode: SIMPLE, credentialName: web"))
    assert the_context(gateway)["common_tls_context"]["tls_params"]["cipher_suites"] == ["AES256-GCM-SHA384"]
    mesh.configure("")
    assert "tls_params" not in the_context(gateway)["common_tls_context"]


def test_certificates_that_were_revoked_and_authorities_that_do_not_matter(
    mesh: Any, tmp_path: Path, revocations: bytes
) -> None:
    (tmp_path / "revoked.pem").write_bytes(revocations)
    gateway = mesh.gateway()
    more = f"caCrl: {tmp_path}/revoked.pem, insecureSkipVerify: true"
    mesh.apply(gateway_yaml(f"mode: MUTUAL, credentialName: web, {more}"))
    validation = the_context(gateway)["common_tls_context"]["combined_validation_context"]["default_validation_context"]
    assert validation["crl"] == {"filename": f"{tmp_path}/revoked.pem"}
    assert validation["trust_chain_verification"] == "ACCEPT_UNTRUSTED"


def test_a_servers_name_is_that_of_its_statistics(mesh: Any) -> None:
    gateway = mesh.gateway()
    text = gateway_yaml("mode: SIMPLE, credentialName: web")
    mesh.apply(text)
    assert the_chain(gateway)["filters"][0]["typed_config"]["stat_prefix"] == "outbound_0.0.0.0_443;"
    mesh.apply(text.replace("- port:", "- name: front\n    port:"))
    assert the_chain(gateway)["filters"][0]["typed_config"]["stat_prefix"] == "front;"
