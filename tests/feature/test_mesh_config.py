"""MeshConfig: access logs and what happens to destinations outside of the mesh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, ports: [{name: http, port: 80}]}
"""
DEFAULT_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)


def logs(listener: dict[str, Any]) -> list[dict[str, Any] | None]:
    """The access log of each chain's last filter."""
    chains = [*listener["filter_chains"], *filter(None, [listener.get("default_filter_chain")])]
    found = [chain["filters"][-1]["typed_config"].get("access_log", [None]) for chain in chains]
    return [log[0] for log in found]


def test_access_log_in_istios_format(mesh: Any) -> None:
    mesh.apply(SERVICE)
    proxy = mesh.sidecar()
    assert logs(proxy.get("listeners", "0.0.0.0_80")) == [None, None]
    assert "access_log" not in proxy.get("listeners", "virtualOutbound")

    mesh.configure("accessLogFile: /dev/stdout")
    assert proxy.told() == {"listeners": {"0.0.0.0_80", "virtualInbound", "virtualOutbound"}}
    expected = {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": "/dev/stdout",
            "log_format": {"text_format_source": {"inline_string": DEFAULT_FORMAT}},
        },
    }
    assert logs(proxy.get("listeners", "0.0.0.0_80")) == [expected, expected]
    assert logs(proxy.get("listeners", "virtualInbound")) == [None, *[expected] * 5]
    assert logs(proxy.get("listeners", "virtualOutbound")) == [None, expected]
    unrouted = {**expected, "filter": {"response_flag_filter": {"flags": ["NR"]}}}
    assert proxy.get("listeners", "virtualInbound")["access_log"] == [unrouted]
    assert proxy.get("listeners", "virtualOutbound")["access_log"] == [unrouted]

    mesh.configure("")
    assert logs(proxy.get("listeners", "0.0.0.0_80")) == [None, None]


def test_access_log_in_ones_own_format(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.configure('{accessLogFile: /dev/stdout, accessLogFormat: "%PROTOCOL%"}')
    config = logs(proxy.get("listeners", "virtualOutbound"))[1]["typed_config"]
    assert config["log_format"] == {"text_format_source": {"inline_string": "%PROTOCOL%\n"}}
    mesh.configure('{accessLogFile: /dev/stdout, accessLogEncoding: JSON, accessLogFormat: \'{"p": "%PROTOCOL%"}\'}')
    config = logs(proxy.get("listeners", "virtualOutbound"))[1]["typed_config"]
    assert config["log_format"] == {"json_format": {"p": "%PROTOCOL%"}}


def test_registry_only(mesh: Any) -> None:
    mesh.apply(SERVICE)
    proxy = mesh.sidecar()
    mesh.configure("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    fallback = proxy.get("listeners", "0.0.0.0_80")["default_filter_chain"]["filters"][0]["typed_config"]
    assert fallback["cluster"] == "BlackHoleCluster"
    rest = proxy.get("listeners", "virtualOutbound")["filter_chains"][1]["filters"][0]["typed_config"]
    assert rest["cluster"] == "BlackHoleCluster"
    host = proxy.get("routes", "80")["virtual_hosts"][-1]
    assert host["name"] == "block_all"
    assert host["routes"][0]["direct_response"] == {"status": 502}


def test_connect_timeout(mesh: Any) -> None:
    mesh.apply(SERVICE)
    proxy = mesh.sidecar()
    mesh.configure("connectTimeout: 1500ms")
    assert {proxy.get("clusters", name)["connect_timeout"] for name in proxy.names("clusters")} == {"1.500s"}


def test_services_that_do_not_say_who_sees_them(mesh: Any) -> None:
    mesh.apply(SERVICE)
    own, other = mesh.sidecar(), mesh.sidecar(name="else", namespace="other", ip="10.0.0.10")
    dns = mesh.dns()
    mesh.configure('defaultServiceExportTo: ["."]')
    assert "0.0.0.0_80" in own.names("listeners")
    assert "0.0.0.0_80" not in other.names("listeners")
    assert dns.names("names") == {"default/web.default.svc.cluster.local"}
    mesh.configure("")
    assert "0.0.0.0_80" in other.names("listeners")
    assert dns.names("names") == {"*/web.default.svc.cluster.local"}


def test_how_often_names_are_looked_up(mesh: Any) -> None:
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: named}
spec: {hosts: [named.test], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
""")
    proxy = mesh.sidecar()

    def refresh_rate() -> str:
        found: str = proxy.get("clusters", "outbound|80||named.test")["cluster_type"]["typed_config"][
            "dns_refresh_rate"
        ]
        return found

    assert refresh_rate() == "60s"
    mesh.configure("dnsRefreshRate: 5s")
    assert refresh_rate() == "5s"


def test_ports_to_which_connections_are_captured(mesh: Any) -> None:
    """Proxies keep those with which their pods were made."""
    own = {"ENVOY_PORT": "15001", "INBOUND_CAPTURE_PORT": "15006"}
    older, proxy = mesh.sidecar("older", ip="10.0.0.7", metadata=own), mesh.sidecar()
    mesh.configure("{proxyListenPort: 16001, proxyInboundListenPort: 16006}")

    def ports(of: Any) -> list[tuple[int, int]]:
        """Where each listener is, and the port for which its first chain has nothing."""
        found = [of.get("listeners", name) for name in ("virtualOutbound", "virtualInbound")]
        return [
            (
                listener["address"]["socket_address"]["port_value"],
                listener["filter_chains"][0]["filter_chain_match"]["destination_port"],
            )
            for listener in found
        ]

    assert ports(proxy) == [(16001, 16001), (16006, 16006)]
    assert ports(older) == [(15001, 15001), (15006, 15006)]


POD = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.1.0.5
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 5432}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: web}]}
status: {podIP: 10.0.0.8}
"""


def test_workloads_that_listen_on_the_loopback(mesh: Any) -> None:
    mesh.apply(POD)
    proxy = mesh.sidecar("web", ip="10.0.0.8", app="web")
    assert proxy.get("clusters", "inbound|8080||")["type"] == "ORIGINAL_DST"
    mesh.configure("inboundTrafficPolicy: {mode: LOCALHOST}")
    cluster = proxy.get("clusters", "inbound|8080||")
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 8080}
    assert "upstream_bind_config" not in cluster
    assert proxy.get("clusters", "InboundPassthroughCluster")["type"] == "ORIGINAL_DST"


def test_names_in_statistics(mesh: Any) -> None:
    mesh.apply(
        POD
        + """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out}
spec: {hosts: [out.test], addresses: [10.9.9.9], ports: [{number: 99, name: tcp, protocol: TCP}], resolution: NONE}
"""
    )
    client, server = mesh.sidecar(), mesh.sidecar("web", ip="10.0.0.8", app="web")
    host = "web.default.svc.cluster.local"

    def bytes_prefix(proxy: Any, listener: str) -> str:
        """By what a listener's chains of bytes are counted."""
        found = proxy.get("listeners", listener)
        chains = [*found["filter_chains"], *filter(None, [found.get("default_filter_chain")])]
        configs = [chain["filters"][-1]["typed_config"] for chain in chains]
        (prefix,) = {config["stat_prefix"] for config in configs if "|" in config.get("cluster", "")}
        return str(prefix)

    assert client.get("clusters", f"outbound|80||{host}")["alt_stat_name"] == f"outbound|80||{host};"
    assert bytes_prefix(client, "10.1.0.5_5432") == f"outbound|5432||{host}"
    mesh.configure("""
outboundClusterStatName: "%SERVICE%_%SERVICE_NAME%_%SERVICE_FQDN%_%SERVICE_PORT%_%SERVICE_PORT_NAME%_%SUBSET_NAME%"
inboundClusterStatName: "%SERVICE%_%TARGET_PORT%_%SERVICE_PORT%"
""")
    plain = f"web.default_web_{host}_80_http_"
    assert client.get("clusters", f"outbound|80||{host}")["alt_stat_name"] == f"{plain};"
    assert client.get("clusters", f"outbound|80|v1|{host}")["alt_stat_name"] == f"{plain}v1;"
    assert bytes_prefix(client, "10.1.0.5_5432") == f"web.default_web_{host}_5432_tcp_"
    assert client.get("clusters", "outbound|99||out.test")["alt_stat_name"] == "out.test_out.test_out.test_99_tcp_;"
    assert client.get("clusters", "PassthroughCluster")["alt_stat_name"] == "PassthroughCluster;"
    assert server.get("clusters", "inbound|8080||")["alt_stat_name"] == "web.default_8080_80;"
    assert bytes_prefix(server, "virtualInbound") == "web.default_5432_5432"


def test_the_proxys_own_access_log_service(mesh: Any) -> None:
    """Those that have one in their bootstrap log there; for others Envoy would refuse listeners that name it."""
    mesh.apply(SERVICE)
    service = {"envoyAccessLogService": {"address": "logs.test:50000"}}
    told = mesh.sidecar("told", ip="10.0.0.7", metadata={"PROXY_CONFIG": service})
    without = mesh.sidecar("without", ip="10.0.0.6", metadata={"PROXY_CONFIG": {}})
    proxy = mesh.sidecar()
    mesh.configure("enableEnvoyAccessLogService: true")
    assert logs(without.get("listeners", "0.0.0.0_80")) == logs(proxy.get("listeners", "0.0.0.0_80")) == [None, None]
    mesh.configure(
        "{enableEnvoyAccessLogService: true, defaultConfig: {envoyAccessLogService: {address: 'logs.test:50000'}}}"
    )
    assert logs(without.get("listeners", "0.0.0.0_80")) == [None, None]
    for each in (told, proxy):
        requests, connections = (log["typed_config"] for log in logs(each.get("listeners", "0.0.0.0_80")) if log)
        kind = "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3."
        assert requests["@type"] == kind + "HttpGrpcAccessLogConfig"
        assert connections["@type"] == kind + "TcpGrpcAccessLogConfig"
        assert connections["common_config"] == {
            "log_name": "tcp_envoy_accesslog",
            "grpc_service": {"envoy_grpc": {"cluster_name": "envoy_accesslog_service"}},
            "transport_api_version": "V3",
        }
        (unrouted,) = each.get("listeners", "virtualOutbound")["access_log"]
        assert unrouted["typed_config"]["@type"] == connections["@type"]
    mesh.configure("""
enableEnvoyAccessLogService: true
accessLogFile: /dev/stdout
defaultConfig: {envoyAccessLogService: {address: 'logs.test:50000'}}
""")
    (chain, *_) = proxy.get("listeners", "0.0.0.0_80")["filter_chains"]
    assert [log["name"].rpartition(".")[2] for log in chain["filters"][-1]["typed_config"]["access_log"]] == [
        "file",
        "http_grpc",
    ]


def test_the_namespace_whose_policies_are_for_all(mesh: Any) -> None:
    mesh.apply(
        SERVICE
        + """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: all, namespace: rules}
spec: {host: "*.local", trafficPolicy: {loadBalancer: {simple: RANDOM}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: all, namespace: rules}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ["*/*"]}]}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: all, namespace: rules}
spec: {accessLogging: [{providers: [{name: envoy}]}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: all, namespace: rules}
spec:
  configPatches:
  - applyTo: CLUSTER
    match: {context: SIDECAR_OUTBOUND}
    patch: {operation: MERGE, value: {connect_timeout: 3s}}
"""
    )
    proxy = mesh.sidecar()

    def ruled() -> tuple[bool, bool, bool, bool]:
        cluster = proxy.get("clusters", "outbound|80||web.default.svc.cluster.local")
        rest = proxy.get("listeners", "virtualOutbound")["filter_chains"][1]["filters"][0]["typed_config"]
        return (
            cluster.get("lb_policy") == "RANDOM",
            cluster["connect_timeout"] == "3s",
            rest["cluster"] == "BlackHoleCluster",
            "access_log" in rest,
        )

    assert not any(ruled())
    mesh.configure("rootNamespace: rules")
    assert all(ruled())
    mesh.configure("")
    assert not any(ruled())


def test_names_that_nobody_knows_are_looked_up(
    mesh: Any, tmp_path: Path, make_certificate: Any, revocations: bytes
) -> None:
    mesh.apply(SERVICE)
    proxy = mesh.sidecar(metadata={"DNS_CAPTURE": "true"})
    assert "AllowAnyDynamicDNSCluster" not in proxy.names("clusters")
    mesh.configure("outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}")
    assert "0.0.0.0_80" in proxy.names("listeners"), "every proxy has everything"
    cluster = proxy.get("clusters", "AllowAnyDynamicDNSCluster")
    assert cluster["cluster_type"]["name"] == "envoy.clusters.dynamic_forward_proxy"
    assert "transport_socket" not in cluster

    unknown = proxy.get("routes", "80")["virtual_hosts"][-1]
    assert (unknown["name"], unknown["domains"]) == ("allow_any_dynamic_dns", ["*"])
    assert unknown["routes"][0]["route"]["cluster"] == "AllowAnyDynamicDNSCluster"
    (known, *_) = proxy.get("listeners", "0.0.0.0_80")["filter_chains"]
    filters = [each["name"].rpartition(".")[2] for each in known["filters"][-1]["typed_config"]["http_filters"]]
    assert filters[-2:] == ["dynamic_forward_proxy", "router"]

    listener = proxy.get("listeners", "virtualOutbound")
    assert [each["name"] for each in listener["listener_filters"]] == ["envoy.filters.listener.http_inspector"]
    assert (listener["listener_filters_timeout"], listener["continue_on_listener_filters_timeout"]) == ("1s", True)
    names = [chain["name"] for chain in listener["filter_chains"]]
    assert names == [
        "virtualOutbound-blackhole",
        "virtualOutbound-catchall-tcp-http",
        "virtualOutbound-catchall-tcp",
    ]
    manager = listener["filter_chains"][1]["filters"][0]["typed_config"]
    (host,) = manager["route_config"]["virtual_hosts"]
    assert host["routes"][0]["route"]["cluster"] == "AllowAnyDynamicDNSCluster"
    rest = listener["filter_chains"][2]["filters"][0]["typed_config"]
    assert rest["cluster"] == "PassthroughCluster"

    texts = (*make_certificate("out.test"), revocations)
    for name, text in zip(("cert.pem", "key.pem", "revoked.pem"), texts, strict=True):
        (tmp_path / name).write_bytes(text)
    mesh.configure(f"""
outboundTrafficPolicy:
  mode: ALLOW_ANY_DYNAMIC_DNS
  tls:
    mode: MUTUAL
    clientCertificate: {tmp_path}/cert.pem
    privateKey: {tmp_path}/key.pem
    caCertificates: {tmp_path}/cert.pem
    caCrl: {tmp_path}/revoked.pem
    subjectAltNames: [out.test]
    sni: out.test
    insecureSkipVerify: false
""")
    socket = proxy.get("clusters", "AllowAnyDynamicDNSCluster")["transport_socket"]["typed_config"]
    assert socket["sni"] == "out.test"
    assert len(socket["common_tls_context"]["tls_certificate_sds_secret_configs"]) == 1
    pair, roots = f"file-cert:{tmp_path}/cert.pem~{tmp_path}/key.pem", f"file-root:{tmp_path}/cert.pem"
    assert proxy.names("secrets") == {pair, roots}

    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: all}
spec: {outboundTrafficPolicy: {mode: ALLOW_ANY}, egress: [{hosts: ["*/*"]}]}
""")
    assert proxy.get("listeners", "virtualOutbound")["filter_chains"][-1]["name"] == "virtualOutbound-catchall-tcp"
    assert "AllowAnyDynamicDNSCluster" not in proxy.names("clusters")


def test_requests_as_to_an_http_proxy(mesh: Any) -> None:
    mesh.apply(POD)
    proxy = mesh.sidecar(metadata={"DNS_CAPTURE": "true"})
    mesh.configure("proxyHttpPort: 15002")
    listener = proxy.get("listeners", "127.0.0.1_15002")
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 15002}
    assert "bind_to_port" not in listener and "default_filter_chain" not in listener
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["rds"]["route_config_name"] == "http_proxy"
    routes = proxy.get("routes", "http_proxy")
    assert "ignore_port_in_host_matching" not in routes
    web, unknown = routes["virtual_hosts"]
    assert {"web.default.svc.cluster.local", "web.default.svc.cluster.local:80", "web", "web:80"} <= set(web["domains"])
    assert web["routes"][0]["route"]["cluster"] == "outbound|80||web.default.svc.cluster.local"
    assert unknown["routes"][0]["route"]["cluster"] == "AllowAnyDynamicDNSCluster", "not back to the proxy itself"
    mesh.delete("Service", "web")
    assert [host["name"] for host in proxy.get("routes", "http_proxy")["virtual_hosts"]] == ["allow_any_dynamic_dns"]
    mesh.configure("{proxyHttpPort: 15002, outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")
    assert [host["name"] for host in proxy.get("routes", "http_proxy")["virtual_hosts"]] == ["block_all"]
    assert "AllowAnyDynamicDNSCluster" not in proxy.names("clusters")
    mesh.configure("")
    assert "http_proxy" not in proxy.names("routes")
