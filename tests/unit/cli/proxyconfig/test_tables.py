"""The tables of `proxy-config`, from dumps that an Envoy of the walkthrough gave, and from single messages."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from pilotfish.cli.proxyconfig import bootstrap, clusters, endpoints, listeners, routes, secrets
from pilotfish.cli.proxyconfig.clusters import ClusterFilter, ClusterName
from pilotfish.cli.proxyconfig.dump import ConfigDump, DumpError
from pilotfish.cli.proxyconfig.endpoints import EndpointFilter
from pilotfish.cli.proxyconfig.listeners import ListenerFilter
from pilotfish.cli.proxyconfig.routes import RouteFilter
from pilotfish.cli.tables import render_padded

DUMP = ConfigDump.parse(Path(__file__).with_name("config_dump.json").read_bytes())
CLUSTERS = endpoints.parse_clusters(Path(__file__).with_name("clusters.json").read_bytes())
RULE = {"filter_metadata": {"istio": {"config": "/apis/networking.istio.io/v1/namespaces/shop/destination-rule/fast"}}}
WRITTEN: list[dict[str, Any]] = [
    {"name": "outbound|80|v2|web.shop.svc.cluster.local", "type": "EDS", "metadata": RULE},
    {"name": "outbound|80|v1|web.shop.svc.cluster.local", "type": "EDS", "metadata": RULE},
    {"name": "outbound|80||web.shop.svc.cluster.local", "type": "EDS"},
    {"name": "outbound_.443_._.web.shop.svc.cluster.local", "type": "EDS"},
    {"name": "outbound|443||example.com", "cluster_type": {"name": "envoy.clusters.dns"}},
    {"name": "agent", "type": "STATIC"},
]


def test_listeners() -> None:
    rows = listeners.table(listeners.select(DUMP.listeners(), ListenerFilter(port=15006)))
    assert render_padded(rows, listeners.PADDING).splitlines() == [
        "ADDRESSES PORT  MATCH                                              DESTINATION",
        "0.0.0.0   15006 Addr: *:15006                                      Non-HTTP/Non-TCP",
        "0.0.0.0   15006 Trans: raw_buffer; App: http/1.1,h2c               InboundPassthroughCluster",
        "0.0.0.0   15006 Trans: raw_buffer                                  InboundPassthroughCluster",
        "0.0.0.0   15006 Trans: raw_buffer; App: http/1.1,h2c; Addr: *:7171 Cluster: inbound|7171||",
        "0.0.0.0   15006 Trans: raw_buffer; Addr: *:7171                    Cluster: inbound|7171||",
    ]


def test_listeners_in_short_are_ordered_by_port_and_have_their_types() -> None:
    rows = listeners.table(listeners.select(DUMP.listeners(), ListenerFilter()), verbose=False)
    assert rows[0] == ["ADDRESSES", "PORT", "TYPE"]
    assert [(port, kind) for _, port, kind in rows[1:]] == [
        ("80", "HTTP+TCP"),
        ("15001", "TCP"),
        ("15006", "HTTP+TCP"),
        ("15010", "HTTP+TCP"),
        ("15014", "HTTP+TCP"),
        ("15020", "HTTP"),
        ("15021", "HTTP"),
        ("15090", "HTTP"),
        ("50000", "HTTP+TCP"),
    ]


def test_listeners_are_found_by_address_and_type() -> None:
    found = listeners.select(DUMP.listeners(), ListenerFilter(address="0.0.0.0", type="tcp"))
    assert [listener["name"] for listener in found] == ["virtualOutbound"]
    assert listeners.select(DUMP.listeners(), ListenerFilter(address="10.0.0.1")) == []


@pytest.mark.parametrize(
    ("match", "text"),
    [
        ({}, "ALL"),
        ({"server_names": ["a.com", "b.com"]}, "SNI: a.com,b.com"),
        ({"transport_protocol": "tls", "application_protocols": ["istio-peer-exchange", "istio"]},
         "Trans: tls; App: TCP TLS"),
        ({"prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}], "destination_port": 53},
         "Addr: 10.0.0.0/8:53"),
        ({"destination_port": 15006}, "Addr: *:15006"),
    ],
)  # fmt: skip
def test_what_a_filter_chain_matches(match: dict[str, Any], text: str) -> None:
    assert listeners.match_of({"filter_chain_match": match}) == text


def test_inline_routes_tell_their_domains_and_matches() -> None:
    hosts = [
        {"domains": ["a.com", "b.com"], "routes": [{"match": {"path": "/x"}}, {"match": {"prefix": "/"}}]},
        {"domains": ["*"], "routes": [{"match": {"safe_regex": {"regex": "/v[12]"}}}]},
    ]
    chain = [{"name": listeners.HTTP, "typed_config": {"route_config": {"virtual_hosts": hosts}}}]
    assert listeners.destination_of(chain) == "Inline Route: a.com/b.com /x, /*; regex /v[12]"


def test_clusters() -> None:
    rows = clusters.table(clusters.select(WRITTEN, ClusterFilter()))
    assert rows == [
        clusters.HEADER,
        ["agent", "-", "-", "-", "STATIC", ""],
        ["example.com", "443", "-", "outbound", "DNS", ""],
        ["web.shop.svc.cluster.local", "80", "-", "outbound", "EDS", ""],
        ["web.shop.svc.cluster.local", "443", "-", "outbound", "EDS", ""],
        ["web.shop.svc.cluster.local", "80", "v1", "outbound", "EDS", "fast.shop"],
        ["web.shop.svc.cluster.local", "80", "v2", "outbound", "EDS", "fast.shop"],
    ]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (ClusterFilter(fqdn="web.shop"), 4),
        (ClusterFilter(subset="v1"), 1),
        (ClusterFilter(port=443), 1),
        (ClusterFilter(direction="inbound"), 0),
        (ClusterFilter(direction="outbound", port=80), 3),
    ],
)
def test_clusters_are_found_by_the_parts_of_their_names(wanted: ClusterFilter, count: int) -> None:
    assert len(clusters.select(WRITTEN, wanted)) == count


def test_names_of_clusters() -> None:
    assert clusters.parse_name("inbound|7171||") == ClusterName("", "inbound", 7171)
    assert clusters.parse_name("outbound_.80_.v1_.a.b") == ClusterName("a.b", "outbound", 80, "v1")
    assert clusters.parse_name("PassthroughCluster") == ClusterName("PassthroughCluster")


def test_routes_of_the_walkthrough() -> None:
    rows = routes.table(routes.select(DUMP.routes(), RouteFilter("50000")))
    domains = "AppMeshClient.mesh, AppMeshClient.mesh. + 1 more..."
    assert rows == [routes.HEADER, ["50000", "AppMeshClient.mesh:50000", domains, "/*", ""]]
    assert routes.table(routes.select(DUMP.routes(), RouteFilter("50000")), verbose=False)[1] == ["50000", "2"]


def test_routes_name_their_virtual_service_and_hosts_without_one_are_404() -> None:
    source = {"filter_metadata": {"istio": {"config": "/apis/networking.istio.io/v1/namespaces/a/virtual-service/b"}}}
    config = {
        "name": "80",
        "virtual_hosts": [
            {
                "name": "x:80",
                "domains": ["x"],
                "routes": [{"match": {"path_separated_prefix": "/a"}, "metadata": source}],
            },
            {"name": "blackhole", "domains": ["*"]},
        ],
    }
    assert routes.table([config])[1:] == [
        ["80", "x:80", "x", "PathPrefix:/a", "b.a"],
        ["80", "blackhole", "*", "/*", "404"],
    ]


def test_domains_that_are_longer_forms_are_left_out() -> None:
    domains = ["web.shop.svc.cluster.local", "web", "web.shop.svc", "web.shop", "web:80", "10.0.0.1", "[fd00::1]"]
    assert routes.domains_text(domains) == "web, web.shop + 2 more..."
    assert routes.domains_text(["web:80"]) == "web:80"


def test_endpoints() -> None:
    rows = endpoints.table(CLUSTERS, EndpointFilter(port=50000, status="healthy"))
    assert [row[1:] for row in rows] == [
        endpoints.HEADER[1:],
        ["HEALTHY", "OK", "outbound|50000||AppMeshClient.mesh"],
    ]
    assert endpoints.select(CLUSTERS, EndpointFilter(cluster="XDS-GRPC"))[0]["name"] == "xds-grpc"
    assert endpoints.table(CLUSTERS, EndpointFilter(address="unix://@pilotfish/xds"))[1][0] == "unix://@pilotfish/xds"


def test_ejected_endpoints_are_told() -> None:
    address = {"socket_address": {"address": "10.0.0.1", "port_value": 80}}
    status = {"eds_health_status": "UNHEALTHY", "failed_outlier_check": True}
    cluster = {"name": "c", "host_statuses": [{"address": address, "health_status": status}]}
    assert endpoints.table([cluster], EndpointFilter())[1] == ["10.0.0.1:80", "UNHEALTHY", "FAILED", "c"]


def test_endpoints_as_they_were_told_have_localities() -> None:
    rows = endpoints.assigned_table(endpoints.select_assigned(DUMP.endpoints(), EndpointFilter(port=7171)))
    assert [row[1:] for row in rows[1:]] == [["HEALTHY", "", "inbound|7171||"]]
    group = {"locality": {"region": "eu", "zone": "a"}, "lb_endpoints": [{"endpoint": {"address": {}}}]}
    [_, row] = endpoints.assigned_table([{"cluster_name": "c", "endpoints": [group]}])
    assert row == ["unknown", "UNKNOWN", "eu/a", "c"]


def test_secrets() -> None:
    found = secrets.secrets(DUMP)
    assert [(secret.name, secret.state) for secret in found] == [("default", "ACTIVE"), ("ROOTCA", "ACTIVE")]
    leaf, root = (secret.certificate for secret in found)
    assert leaf is not None and root is not None
    assert (leaf.is_authority, leaf.trust_domain, root.is_authority) == (False, "cluster.local", True)
    during = leaf.not_before + dt.timedelta(minutes=5)
    after = leaf.not_after + dt.timedelta(minutes=5)
    rows = secrets.table(found, during)
    assert rows[0] == secrets.HEADER
    assert [row[1:4] for row in rows[1:]] == [["Cert Chain", "ACTIVE", "true"], ["CA", "ACTIVE", "true"]]
    assert rows[1][4] == leaf.serial
    assert [row[3] for row in secrets.table(found, after)[1:]] == ["false", "true"]
    assert "TRUST DOMAIN" in secrets.table(found[:1], during)[0]


def test_a_secret_that_has_not_come_has_no_certificate() -> None:
    waiting = {"dynamic_warming_secrets": [{"name": "kubernetes://cert", "secret": {}}]}
    [secret] = secrets.secrets(ConfigDump({"SecretsConfigDump": waiting}))
    assert secrets.table([secret], dt.datetime.now(dt.UTC))[1] == [
        "kubernetes://cert", "", "WARMING", "false", "", "", "",
    ]  # fmt: skip


def test_versions() -> None:
    rows = bootstrap.summary(DUMP.section("BootstrapConfigDump"))
    assert rows[0] == ["Istio Version:", "1.10.4"]
    assert rows[1][0] == "Envoy Version:"
    assert rows[1][1].endswith("/Clean/RELEASE/BoringSSL")


def test_extensions_are_ordered_by_type() -> None:
    def extension(name: str, kind: str) -> dict[str, Any]:
        return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{kind}"}}

    rows = bootstrap.extension_table([extension("b", "x.Wasm"), extension("c", "x.Lua"), extension("a", "x.Wasm")])
    assert rows == [["ECDS NAME", "TYPE"], ["c", "x.Lua"], ["a", "x.Wasm"], ["b", "x.Wasm"]]


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"configs": [{}]}'])
def test_what_is_no_dump_is_refused(text: bytes) -> None:
    with pytest.raises(DumpError, match="not what an Envoy answers"):
        ConfigDump.parse(text)


def test_what_a_dump_lacks_is_named() -> None:
    with pytest.raises(DumpError, match="no listeners found"):
        ConfigDump({"ListenersConfigDump": {}}).listeners()
    with pytest.raises(DumpError, match="has no RoutesConfigDump"):
        ConfigDump({}).routes()
    with pytest.raises(DumpError, match="/clusters"):
        endpoints.parse_clusters(b'{"configs": []}')


def test_routes_for_requests_that_no_host_takes_are_left_out() -> None:
    """Those of a proxy on demand, too, which asks where they go."""
    actions = [{"cluster": "PassthroughCluster"}, {"cluster_header": "x-pilotfish-destination"}, {"cluster": "a"}]
    everything = [{"match": {"prefix": "/"}, "route": action} for action in actions]
    config = {"name": "80", "virtual_hosts": [{"name": "allow_any", "domains": ["*"], "routes": everything}]}
    assert routes.table([config])[1:] == [["80", "allow_any", "*", "/*", ""]]
