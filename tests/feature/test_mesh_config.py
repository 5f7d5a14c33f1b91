"""MeshConfig: access logs and what happens to destinations outside of the mesh."""

from __future__ import annotations

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
