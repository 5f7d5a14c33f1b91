"""What of the mesh's configuration shapes the proxies' configuration: part of the specs that it shapes."""

from __future__ import annotations

import msgspec

from pilotfish.api.errors import FieldError, Invalid
from pilotfish.mesh.meshconfig import MeshConfig
from pilotfish.mesh.records import Record
from pilotfish.xds.build import names

ACCESS_LOG_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
"""Istio's default text format (pilot/pkg/model EnvoyTextLogFormat)."""

ALLOCATED_RANGES = ("240.240.0.0/16", "2001:2::/48")
"""From which hosts without an address get one."""

_PROXY_PORTS = frozenset({15000, 15020, 15021, 15053, 15090})

_JSON_FORMAT = (
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
)


class AccessLog(Record):
    """Where proxies write a line for each request; `json` holds (key, format) pairs and replaces `text`."""

    path: str
    text: str = ACCESS_LOG_FORMAT
    json: tuple[tuple[str, str], ...] = ()


class ProxySettings(Record):
    """Seconds throughout. `allow_any` lets through what goes to no host of the mesh (Istio: outboundTrafficPolicy)."""

    access_log: AccessLog | None = None
    allow_any: bool = True
    connect_timeout: float = 10.0
    detection_timeout: float = 0.0
    dns_refresh: float = 60.0
    outbound_port: int = 15001
    inbound_port: int = 15006
    cluster_domain: str = "cluster.local"
    mesh_ranges: tuple[str, ...] = ALLOCATED_RANGES
    """Where the addresses of the mesh's hosts are, cluster IPs among them."""

    @property
    def catch_all_cluster(self) -> str:
        """Where bytes for no host of the mesh go."""
        return names.PASSTHROUGH if self.allow_any else names.BLACK_HOLE

    @property
    def catch_all_host(self) -> str:
        """The virtual host of requests for no host of the mesh."""
        return names.ALLOW_ANY if self.allow_any else names.BLOCK_ALL

    def reserved(self, port: int) -> bool:
        """Whether the proxy itself listens on a port of every address, so that nothing else can."""
        return port in _PROXY_PORTS or port in (self.outbound_port, self.inbound_port)


def settings_of(
    mesh: MeshConfig, cluster_domain: str = "cluster.local", mesh_ranges: tuple[str, ...] = ALLOCATED_RANGES
) -> ProxySettings:
    """The part of MeshConfig that shapes proxies, with what the installation says.

    Raises Invalid when `accessLogFormat` is to be JSON and is no object of strings.
    """
    return ProxySettings(
        access_log=_access_log(mesh) if mesh.access_log_file else None,
        allow_any=mesh.outbound_traffic_policy.mode != "REGISTRY_ONLY",
        connect_timeout=mesh.connect_timeout,
        detection_timeout=mesh.protocol_detection_timeout,
        dns_refresh=mesh.dns_refresh_rate,
        outbound_port=mesh.proxy_listen_port,
        inbound_port=mesh.proxy_inbound_listen_port,
        cluster_domain=cluster_domain,
        mesh_ranges=mesh_ranges,
    )


def _access_log(mesh: MeshConfig) -> AccessLog:
    if mesh.access_log_encoding == "JSON":
        return AccessLog(mesh.access_log_file, json=_json_format(mesh.access_log_format))
    text = mesh.access_log_format or ACCESS_LOG_FORMAT
    return AccessLog(mesh.access_log_file, text if text.endswith("\n") else text + "\n")


def _json_format(text: str) -> tuple[tuple[str, str], ...]:
    if not text:
        return _JSON_FORMAT
    try:
        return tuple(msgspec.json.decode(text, type=dict[str, str]).items())
    except msgspec.DecodeError as error:
        fault = FieldError(
            path="accessLogFormat", message=f"with encoding JSON, an object of strings is needed: {error}"
        )
        raise Invalid.of("MeshConfig", "", "istio", [fault]) from None
