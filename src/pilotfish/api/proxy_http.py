"""How a proxy's connection managers treat connections and headers (ProxyConfig: connectionSettings, proxyHeaders)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from pilotfish.api.durations import Duration
from pilotfish.api.meta import Struct

ClientCertificateHeader = Literal[
    "UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"
]
"""What becomes of a client's certificate in the header x-forwarded-client-cert."""


class ServerHeader(Struct):
    disabled: bool = False
    value: str = ""


class Disabled(Struct):
    disabled: bool = False


class Enabled(Struct):
    enabled: bool = False


class MetadataExchangeHeaders(Struct):
    """IN_MESH: who the workload is, destinations outside of the mesh are not told."""

    mode: Literal["UNDEFINED", "IN_MESH"] = "UNDEFINED"


class SetCurrentClientCertDetails(Struct):
    """What of a client's certificate is told in x-forwarded-client-cert; None is Istio's default."""

    subject: bool | None = None
    cert: bool | None = None
    chain: bool | None = None
    dns: bool | None = None
    uri: bool | None = None


class ProxyHeaders(Struct):
    """Headers that the proxy adds, which can be left out, and others that it can add."""

    forwarded_client_cert: ClientCertificateHeader = "UNDEFINED"
    set_current_client_cert_details: SetCurrentClientCertDetails = SetCurrentClientCertDetails()
    request_id: Disabled = Disabled()
    server: ServerHeader = ServerHeader()
    attempt_count: Disabled = Disabled()
    envoy_debug_headers: Disabled = Disabled()
    metadata_exchange_headers: MetadataExchangeHeaders = MetadataExchangeHeaders()
    preserve_http1_header_case: bool = False
    x_forwarded_host: Enabled = Enabled()
    x_forwarded_port: Enabled = Enabled()


Limit = Annotated[int, Meta(ge=0, le=2**31 - 1, description="a number of at least 0")]


class ConnectionSettings(Struct):
    """Limits of a proxy's connections; None leaves Envoy's own. With the profile EDGE gateways have those that Envoy
    recommends for proxies that anybody can reach. Sizes are bytes.
    """

    profile: Literal["SIDECAR", "EDGE"] = "SIDECAR"
    listener_per_connection_buffer_limit_bytes: Limit | None = None
    cluster_per_connection_buffer_limit_bytes: Limit | None = None
    http_idle_timeout: Duration | None = None
    http_max_connection_duration: Duration | None = None
    http_drain_timeout: Duration | None = None
    http_request_timeout: Duration | None = None
    http_request_headers_timeout: Duration | None = None
    http_stream_idle_timeout: Duration | None = None
    http_max_stream_duration: Duration | None = None
    http_max_concurrent_streams: Limit | None = None
    http2_initial_stream_window_size: Limit | None = None
    http2_initial_connection_window_size: Limit | None = None
    http_headers_with_underscores_action: Literal[
        "HEADERS_WITH_UNDERSCORES_UNSPECIFIED",
        "HEADERS_WITH_UNDERSCORES_ALLOW",
        "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
        "HEADERS_WITH_UNDERSCORES_DROP_HEADER",
    ] = "HEADERS_WITH_UNDERSCORES_UNSPECIFIED"
    http_merge_slashes: bool | None = None
    http_path_with_escaped_slashes_action: Literal[
        "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED",
        "KEEP_UNCHANGED",
        "REJECT_REQUEST",
        "UNESCAPE_AND_REDIRECT",
        "UNESCAPE_AND_FORWARD",
    ] = "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED"
    listener_connection_limit: Limit | None = None
    global_downstream_connection_limit: Limit | None = None
