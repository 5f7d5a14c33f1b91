"""The HTTP routes of a VirtualService (networking/v1alpha3/virtual_service.proto)."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import field

from pilotfish.api.istio_types import Duration, UInt32
from pilotfish.api.meta import Struct
from pilotfish.api.networking.destination import Destination

RedirectPortSelection = Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"]
UnmatchedPreflights = Literal["UNSPECIFIED", "FORWARD", "IGNORE"]


class Percent(Struct):
    """From 0 to 100, with fractions."""

    value: float = 0.0


class StringMatch(Struct):
    """`regex` is in RE2's syntax and covers the whole text."""

    ONE_OF: ClassVar = (("exact", "prefix", "regex"),)

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class HTTPMatchRequest(Struct):
    """All of its conditions together; a route applies when one of its matches does."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = {}
    port: UInt32 = 0
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    query_params: dict[str, StringMatch] = {}
    ignore_uri_case: bool = False
    without_headers: dict[str, StringMatch] = {}
    source_namespace: str = ""
    stat_prefix: str = ""


class HeaderOperations(Struct):
    """`set` replaces what is there, `add` appends to it."""

    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class Headers(Struct):
    request: HeaderOperations = HeaderOperations()
    response: HeaderOperations = HeaderOperations()


class HTTPRouteDestination(Struct):
    """`weight` is relative to the other destinations of the route."""

    destination: Destination
    weight: int = 0
    headers: Headers = Headers()


class HTTPRedirect(Struct):
    ONE_OF: ClassVar = (("port", "derive_port"),)

    uri: str = ""
    authority: str = ""
    port: UInt32 | None = None
    derive_port: RedirectPortSelection | None = None
    scheme: str = ""
    redirect_code: UInt32 = 0
    prefix_rewrite: str = ""


class HTTPBody(Struct):
    """`bytes` is in base64."""

    ONE_OF: ClassVar = (("string", "bytes"),)

    string: str | None = None
    bytes: str | None = None


class HTTPDirectResponse(Struct):
    status: UInt32
    body: HTTPBody | None = None


class Delegate(Struct):
    """The VirtualService whose HTTP routes stand in this one's place; `namespace` is the root's when it is empty."""

    name: str = ""
    namespace: str = ""


class RegexRewrite(Struct):
    match: str = ""
    rewrite: str = ""


class HTTPRewrite(Struct):
    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class HTTPRetry(Struct):
    """`retry_on` holds Envoy's conditions and status codes, separated by commas."""

    attempts: int = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None


class Delay(Struct):
    ONE_OF: ClassVar = (("fixed_delay", "exponential_delay"),)

    percent: int = 0
    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: Percent | None = None


class Abort(Struct):
    ONE_OF: ClassVar = (("http_status", "grpc_status", "http2_error"),)

    http_status: int | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: Percent | None = None


class HTTPFaultInjection(Struct):
    delay: Delay | None = None
    abort: Abort | None = None


class HTTPMirrorPolicy(Struct):
    destination: Destination
    percentage: Percent | None = None


class CorsPolicy(Struct):
    allow_origin: tuple[str, ...] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: UnmatchedPreflights = "UNSPECIFIED"


class HTTPRoute(Struct):
    """`mirror_percent_snake` is a second spelling of `mirrorPercent`, which Istio's schema keeps for old manifests."""

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    mirror_percent: UInt32 | None = None
    mirror_percent_snake: UInt32 | None = field(name="mirror_percent", default=None)
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers = Headers()
