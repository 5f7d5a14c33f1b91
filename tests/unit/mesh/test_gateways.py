import yaml

from pilotfish.api.decode import decode
from pilotfish.api.kinds import GATEWAY
from pilotfish.mesh.gateways import Gateways, servers_of
from pilotfish.mesh.listening import Speech, merge
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.servers import CertificateFiles, ClientCheck, ServerHost, Termination, Tls

EDGE = (("istio", "edge"),)


def a_gateway(servers, name="web", created="2024-01-01T00:00:00Z", selector="{istio: edge}", namespace="default"):
    return decode(
        GATEWAY,
        yaml.safe_load(f"""
            apiVersion: networking.istio.io/v1
            kind: Gateway
            metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{created}"}}
            spec: {{selector: {selector}, servers: {servers}}}
            """),
    )


def http(hosts="['*']", port=80, name="http", protocol="HTTP", more=""):
    return f"{{port: {{number: {port}, name: {name}, protocol: {protocol}}}, hosts: {hosts}{more}}}"


def https(hosts, name="https", tls="mode: SIMPLE, credentialName: web", protocol="HTTPS", more=""):
    return http(hosts, 443, name, protocol, f", tls: {{{tls}}}{more}")


def the_server(text):
    (server,) = servers_of(a_gateway(f"[{text}]"))
    return server


def listened(*gateways, target=lambda port: port, reserved=lambda port: False):
    held = Gateways()
    for gateway in gateways:
        held.apply(None, gateway)
    return merge(held.servers(EDGE), target, reserved)


def test_hosts_say_whose_routes_may_bind():
    server = the_server(http("['*.A.com', './b.com', 'other/c.com', '*/d.com', '*/*']"))
    assert server.hosts == (
        ServerHost("*", "*.a.com"),
        ServerHost("default", "b.com"),
        ServerHost("other", "c.com"),
        ServerHost("*", "d.com"),
        ServerHost("*", "*"),
    )
    assert set(server.serves("default", "x.a.com")) == {"x.a.com"}
    narrow = the_server(http("[other/c.com, d.a.com]"))
    assert set(narrow.serves("default", "c.com")) == set()
    assert set(narrow.serves("other", "*.com")) == {"c.com", "d.a.com"}


def test_what_each_mode_ends_and_asks_for():
    simple = the_server(https("[a.com]")).termination
    assert simple == Termination(credentials=("web",))
    mutual = the_server(https("[a.com]", tls="mode: MUTUAL, credentialNames: [rsa, ec]")).termination
    assert mutual == Termination(credentials=("rsa", "ec"), client=ClientCheck.REQUIRED, root_credential="rsa")
    chosen = "mode: OPTIONAL_MUTUAL, credentialName: web, caCertCredentialName: roots"
    optional = the_server(https("[a.com]", tls=chosen)).termination
    assert (optional.client, optional.root_credential) == (ClientCheck.OPTIONAL, "roots")
    of_mesh = the_server(https("[a.com]", tls="mode: ISTIO_MUTUAL")).termination
    assert of_mesh == Termination(workload=True, client=ClientCheck.REQUIRED)
    files = "mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /r, minProtocolVersion: TLSV1_2"
    of_files = the_server(https("[a.com]", tls=files)).termination
    assert (of_files.files, of_files.roots, of_files.min_version) == ((CertificateFiles("/c", "/k"),), "/r", "TLSv1_2")
    passed = the_server(https("[a.com]", tls="mode: PASSTHROUGH"))
    assert (passed.tls, passed.termination, passed.is_http) == (Tls.PASSTHROUGH, None, False)
    redirecting = the_server(http(more=", tls: {httpsRedirect: true}"))
    assert (redirecting.tls, redirecting.https_redirect, redirecting.is_http) == (Tls.NONE, True, True)


def test_a_gateway_selects_pods_of_every_namespace_by_their_labels():
    held = Gateways()
    edge, everywhere = a_gateway(f"[{http()}]"), a_gateway(f"[{http()}]", "all", selector="{}")
    assert held.apply(None, edge) == {"default/web"}
    assert held.apply(edge, edge) == frozenset()
    held.apply(None, everywhere)
    assert [server.gateway for server in held.servers(EDGE)] == ["default/all", "default/web"]
    assert [server.gateway for server in held.servers((("istio", "other"),))] == ["default/all"]
    assert held.apply(edge, None) == {"default/web"}
    assert [server.gateway for server in held.servers(EDGE)] == ["default/all"]


def test_plain_servers_of_a_port_share_a_listener():
    merged = listened(
        a_gateway(f"[{http('[a.com]')}, {http('[b.com]', name='grpc', protocol='GRPC')}]"),
        a_gateway(f"[{http('[a.com]')}]", "other"),
        target={80: 8080}.get,
    )
    (listening,) = merged.listening
    assert (listening.port, listening.speech, len(listening.servers)) == (8080, Speech.HTTP, 3)
    assert merged.refused == ()


def test_the_oldest_has_its_way():
    old = a_gateway(f"[{http()}]", "old", "2020-01-01T00:00:00Z")
    young = a_gateway(f"[{http(protocol='TCP', name='tcp')}]", "young")
    merged = listened(young, old)
    assert [server.gateway for listening in merged.listening for server in listening.servers] == ["default/old"]
    (refusal,) = merged.refused
    assert (refusal.server.gateway, refusal.server.protocol) == ("default/young", Protocol.TCP)
    assert refusal.reason == "port 80 serves HTTP for Gateway default/old"


def test_servers_with_tls_share_a_port_unless_they_share_a_name():
    first = a_gateway(f"[{https('[a.com]')}, {https('[b.com]', 'tls', 'mode: PASSTHROUGH', 'TLS')}]", "first")
    second = a_gateway(f"[{https('[c.com, b.com]')}]", "second", "2025-01-01T00:00:00Z")
    merged = listened(first, second)
    (listening,) = merged.listening
    assert [server.hostnames for server in listening.servers] == [("a.com",), ("b.com",)]
    assert [refusal.reason for refusal in merged.refused] == ["port 443 serves b.com for Gateway default/first"]


def test_other_addresses_are_other_listeners():
    merged = listened(
        a_gateway(f"[{http(protocol='TCP', name='a', more=', bind: 10.0.0.1')}, {http(more=', bind: 10.0.0.2')}]")
    )
    assert [(each.bind, each.speech) for each in merged.listening] == [
        ("10.0.0.1", Speech.BYTES),
        ("10.0.0.2", Speech.HTTP),
    ]


def test_the_proxys_own_ports_are_taken():
    merged = listened(a_gateway(f"[{http(port=15021)}]"), reserved=lambda port: port == 15021)
    assert not merged.listening
    assert [refusal.reason for refusal in merged.refused] == ["port 15021 is the proxy's own"]
