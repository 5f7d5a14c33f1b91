"""What Istio refuses of a VirtualService's HTTP routes (pkg/config/validation/virtualservice.go)."""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.api.errors import FieldError
from pilotfish.api.faults import forbidden, invalid, required, unsupported
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.headers import (
    authority_set_once,
    cors_name,
    is_claim,
    matched_name,
    operations,
)
from pilotfish.api.istio_validation.hosts import is_label
from pilotfish.api.istio_validation.regex import regex
from pilotfish.api.istio_validation.routes import destination, gateway_names, weights
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.http_route import (
    Abort,
    CorsPolicy,
    Delay,
    HTTPDirectResponse,
    HTTPFaultInjection,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRetry,
    HTTPRewrite,
    HTTPRoute,
    Percent,
    StringMatch,
)

RETRY_CONDITIONS = (
    *("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream"),
    *("retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure"),
    *("cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"),
)
"""Envoy's conditions: x-envoy-retry-on and x-envoy-retry-grpc-on."""
GRPC_STATUSES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
CORS_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*")
LARGEST_BODY = 1 << 20
LARGE_BODY = 100 << 10
_SMALLEST_PERCENTAGE = 0.0001


def http_route(path: str, route: HTTPRoute, *, delegate: bool, for_gateways: bool) -> Faults:
    """The faults of one route; `delegate` says that its VirtualService has no hosts."""
    yield from _exclusive(path, route, delegate=delegate)
    for position, match in enumerate(route.match):
        yield from _match(f"{path}.match[{position}]", match, for_gateways=for_gateways)
    yield from operations(f"{path}.headers", route.headers)
    yield from authority_set_once(path, route.headers, route.rewrite.authority if route.rewrite else "")
    yield from _destinations(f"{path}.route", route)
    yield from _mirrors(path, route)
    yield from values.duration(f"{path}.timeout", route.timeout)
    if route.redirect:
        yield from _redirect(f"{path}.redirect", route.redirect, route.match)
    if route.direct_response:
        yield from _direct_response(f"{path}.directResponse", route.direct_response)
    if route.rewrite:
        yield from _rewrite(f"{path}.rewrite", route.rewrite)
    if route.retries:
        yield from http_retries(f"{path}.retries", route.retries)
    if route.fault:
        yield from _fault(f"{path}.fault", route.fault)
    if route.cors_policy:
        yield from _cors(f"{path}.corsPolicy", route.cors_policy)


def http_route_warnings(path: str, route: HTTPRoute) -> Faults:
    if route.mirror_percent is not None or route.mirror_percent_snake is not None:
        yield values.warning(f"{path}.mirrorPercent", "this field is deprecated; use mirrorPercentage")
    abort = route.fault.abort if route.fault else None
    if abort and abort.http_status is None and abort.grpc_status is None and abort.http2_error is None:
        yield values.warning(f"{path}.fault.abort", "it says no error to abort with; give httpStatus or grpcStatus")
    if route.direct_response and LARGE_BODY < _body_size(route.direct_response) <= LARGEST_BODY:
        yield values.warning(f"{path}.directResponse.body", "a large body is sent to every proxy with its routes")


def _exclusive(path: str, route: HTTPRoute, *, delegate: bool) -> Faults:
    """What must not stand beside each other in a route."""
    if route.delegate and delegate:
        yield forbidden(f"{path}.delegate", "a VirtualService without hosts is a delegate itself, and cannot have one")
    elif route.delegate:
        for name, given in (("redirect", route.redirect), ("route", route.route)):
            if given:
                yield forbidden(f"{path}.{name}", "the routes of the delegate stand in its place; give one of them")
        return
    answers = {"redirect": route.redirect, "directResponse": route.direct_response}
    given_answers = [name for name, value in answers.items() if value]
    if len(given_answers) > 1:
        yield forbidden(f"{path}.directResponse", "redirect is set already; a request gets one answer")
    if given_answers:
        for name, value in (("route", route.route), ("fault", route.fault), ("rewrite", route.rewrite)):
            if value:
                yield forbidden(
                    f"{path}.{name}", f"{given_answers[0]} answers the request, so that nothing is forwarded"
                )
    elif not route.route:
        yield required(f"{path}.route", "a route needs destinations, a redirect or a directResponse")
    if route.mirror and route.mirrors:
        yield forbidden(f"{path}.mirror", "mirrors is set; list this destination there")


def _match(path: str, match: HTTPMatchRequest, *, for_gateways: bool) -> Faults:
    for field, headers in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
        for name in headers:
            yield from matched_name(f"{path}.{field}[{name}]", name)
            if is_claim(name) and not for_gateways:
                why = "claims are known only to gateways; list a gateway in spec.gateways, and not mesh"
                yield forbidden(f"{path}.{field}[{name}]", why)
    yield from _texts(f"{path}.headers", match.headers)
    # A header that must be absent altogether is written as the regular expression "*".
    checked = {name: text for name, text in match.without_headers.items() if text.regex != "*"}
    yield from _texts(f"{path}.withoutHeaders", checked)
    yield from _texts(f"{path}.queryParams", match.query_params)
    if match.uri and match.uri.regex is not None:
        yield from regex(f"{path}.uri.regex", match.uri.regex)
    for field, text in (("scheme", match.scheme), ("method", match.method), ("authority", match.authority)):
        if text:
            yield from _text(f"{path}.{field}", text)
    if match.port:
        yield from values.port_number(f"{path}.port", match.port)
    yield from values.labels(f"{path}.sourceLabels", match.source_labels)
    yield from gateway_names(f"{path}.gateways", match.gateways)
    if match.source_namespace and not is_label(match.source_namespace):
        yield invalid(f"{path}.sourceNamespace", match.source_namespace, "expected the name of a namespace")


def _texts(path: str, texts: Mapping[str, StringMatch]) -> Faults:
    for name, text in texts.items():
        yield from _text(f"{path}[{name}]", text)


def _text(path: str, text: StringMatch) -> Faults:
    if text.prefix == "":
        yield required(f"{path}.prefix", "a prefix must not be empty; leave the match out to match anything")
    if text.regex is not None:
        yield from regex(f"{path}.regex", text.regex)


def _destinations(path: str, route: HTTPRoute) -> Faults:
    for position, target in enumerate(route.route):
        yield from destination(f"{path}[{position}].destination", target.destination)
        yield from operations(f"{path}[{position}].headers", target.headers)
    yield from weights(path, [target.weight for target in route.route])


def _mirrors(path: str, route: HTTPRoute) -> Faults:
    for name, percent in (("mirrorPercent", route.mirror_percent), ("mirror_percent", route.mirror_percent_snake)):
        yield from values.percentage(f"{path}.{name}", percent or 0)
    if route.mirror_percentage:
        yield from values.percentage(f"{path}.mirrorPercentage.value", route.mirror_percentage.value)
    if route.mirror:
        yield from destination(f"{path}.mirror", route.mirror)
    for position, mirror in enumerate(route.mirrors):
        where = f"{path}.mirrors[{position}]"
        yield from destination(f"{where}.destination", mirror.destination)
        if mirror.percentage:
            yield from values.percentage(f"{where}.percentage.value", mirror.percentage.value)


def _redirect(path: str, redirect: HTTPRedirect, matches: tuple[HTTPMatchRequest, ...]) -> Faults:
    if redirect.uri and redirect.prefix_rewrite:
        yield forbidden(f"{path}.prefixRewrite", "uri replaces the whole path already; give one of them")
    elif redirect.prefix_rewrite and any(match.uri and match.uri.prefix is None for match in matches):
        yield forbidden(f"{path}.prefixRewrite", "every match of the route must be for a prefix of the URI")
    changes = (redirect.uri, redirect.prefix_rewrite, redirect.authority, redirect.scheme)
    if not any(changes) and redirect.port is None and redirect.derive_port is None:
        yield required(path, "a redirect changes uri, prefixRewrite, authority, scheme or port")
    if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:
        yield invalid(f"{path}.redirectCode", redirect.redirect_code, "a redirect's status is from 300 to 399")
    if redirect.scheme not in ("", "http", "https"):
        yield unsupported(f"{path}.scheme", redirect.scheme, ("http", "https"))
    if redirect.port:
        yield from values.port_number(f"{path}.port", redirect.port)


def _direct_response(path: str, response: HTTPDirectResponse) -> Faults:
    yield from _status(f"{path}.status", response.status)
    if _body_size(response) > LARGEST_BODY:
        yield FieldError(
            path=f"{path}.body", message="Too long: may not be more than 1 MiB", reason="FieldValueTooLong"
        )


def _body_size(response: HTTPDirectResponse) -> int:
    """Bytes of the body, of which base64 writes three as four characters."""
    if response.body is None:
        return 0
    if response.body.bytes is not None:
        return len(response.body.bytes.rstrip("=")) * 3 // 4
    return len((response.body.string or "").encode())


def _status(path: str, status: int) -> Faults:
    if not 200 <= status <= 600:
        yield invalid(path, status, "an HTTP status is from 200 to 599")


def _rewrite(path: str, rewrite: HTTPRewrite) -> Faults:
    pattern = rewrite.uri_regex_rewrite
    if rewrite.uri and pattern:
        yield forbidden(f"{path}.uriRegexRewrite", "uri is set already; give one of them")
    if not rewrite.uri and not rewrite.authority and not pattern:
        yield required(path, "a rewrite changes uri, uriRegexRewrite or authority")
    if pattern:
        yield from regex(f"{path}.uriRegexRewrite.match", pattern.match)
        if not pattern.rewrite:
            yield required(f"{path}.uriRegexRewrite.rewrite", "say what the match becomes")


def http_retries(path: str, retries: HTTPRetry) -> Faults:
    """The faults of a policy of retries."""
    yield from values.not_negative(f"{path}.attempts", retries.attempts)
    configured = retries.per_try_timeout or retries.retry_on or retries.retry_remote_localities is not None
    if retries.attempts == 0 and configured:
        yield invalid(f"{path}.attempts", 0, "0 switches retries off, and other fields of retries are set")
    yield from values.duration(f"{path}.perTryTimeout", retries.per_try_timeout)
    yield from values.duration(f"{path}.backoff", retries.backoff)
    for condition in retries.retry_on.split(",") if retries.retry_on else ():
        is_status = condition.isdecimal() and 100 <= int(condition) <= 599
        if not is_status and condition not in RETRY_CONDITIONS:
            yield unsupported(f"{path}.retryOn", condition, (*RETRY_CONDITIONS, "<HTTP status>"))


def _fault(path: str, fault: HTTPFaultInjection) -> Faults:
    if fault.abort is None and fault.delay is None:
        yield required(path, "a fault is an abort, a delay or both")
    if fault.delay:
        yield from _delay(f"{path}.delay", fault.delay)
    if fault.abort:
        yield from _abort(f"{path}.abort", fault.abort)


def _delay(path: str, delay: Delay) -> Faults:
    yield from _share(f"{path}.percentage.value", delay.percentage)
    yield from values.duration(f"{path}.fixedDelay", delay.fixed_delay)
    if delay.exponential_delay is not None:
        yield forbidden(f"{path}.exponentialDelay", "Envoy has no exponential delay; use fixedDelay")


def _abort(path: str, abort: Abort) -> Faults:
    yield from _share(f"{path}.percentage.value", abort.percentage)
    if abort.http_status is not None:
        yield from _status(f"{path}.httpStatus", abort.http_status)
    if abort.grpc_status is not None and abort.grpc_status not in GRPC_STATUSES:
        yield unsupported(f"{path}.grpcStatus", abort.grpc_status, GRPC_STATUSES)
    if abort.http2_error is not None:
        yield forbidden(f"{path}.http2Error", "Envoy cannot abort with an HTTP/2 error; use httpStatus or grpcStatus")


def _share(path: str, percent: Percent | None) -> Faults:
    """Envoy counts in millionths."""
    if percent and percent.value and not _SMALLEST_PERCENTAGE <= percent.value <= 100:
        yield invalid(path, percent.value, "a percentage is 0, or from 0.0001 to 100")


def _cors(path: str, policy: CorsPolicy) -> Faults:
    for position, origin in enumerate(policy.allow_origins):
        where = f"{path}.allowOrigins[{position}]"
        if not (origin.exact or origin.prefix or origin.regex):
            yield required(where, "an origin is matched by exact, prefix or regex")
        elif origin.regex:
            yield from regex(f"{where}.regex", origin.regex)
    for position, method in enumerate(policy.allow_methods):
        if method not in CORS_METHODS:
            yield unsupported(f"{path}.allowMethods[{position}]", method, CORS_METHODS)
    for field, names in (("allowHeaders", policy.allow_headers), ("exposeHeaders", policy.expose_headers)):
        for position, name in enumerate(names):
            yield from cors_name(f"{path}.{field}[{position}]", name)
    yield from values.whole_seconds(f"{path}.maxAge", policy.max_age)
