"""What single values of Istio's kinds may be, and what is said when they are not (Istio: pkg/config/validation)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence

from pilotfish.api.durations import nanoseconds
from pilotfish.api.errors import FieldError
from pilotfish.api.faults import duplicate, forbidden, invalid, required, unsupported
from pilotfish.api.istio_types import PolicyTargetReference
from pilotfish.api.istio_validation.hosts import host_fault, is_ip, is_label

Faults = Iterator[FieldError]

PROTOCOLS = (
    *("HTTP", "HTTP2", "HTTPS", "HTTP_PROXY", "GRPC", "GRPC-Web"),
    *("TCP", "TLS", "UDP", "Mongo", "MySQL", "Redis"),
)
_HTTP_PROTOCOLS = {"http", "http2", "http_proxy", "grpc", "grpc-web"}
_TLS_PROTOCOLS = {"https", "tls"}
_TARGETS = (
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
)
_LABEL_KEY = re.compile(r"(?:[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LONGEST_SELECTED = 63
_MILLISECOND = 10**6
_SECOND = 10**9
UNIX = "unix://"


def is_http(protocol: str) -> bool:
    return protocol.lower() in _HTTP_PROTOCOLS


def is_tls(protocol: str) -> bool:
    return protocol.lower() in _TLS_PROTOCOLS


def port_number(path: str, number: int) -> Faults:
    if not 1 <= number <= 65535:
        yield invalid(path, number, "a port is from 1 to 65535")


def port_name(path: str, name: str) -> Faults:
    if not is_label(name):
        yield invalid(path, name, 'expected 1 to 63 letters, digits and "-"')


def protocol(path: str, name: str) -> Faults:
    if name.lower() not in {word.lower() for word in PROTOCOLS}:
        yield unsupported(path, name, PROTOCOLS)


def not_negative(path: str, value: int) -> Faults:
    if value < 0:
        yield invalid(path, value, "expected at least 0")


def percentage(path: str, value: float) -> Faults:
    if not 0 <= value <= 100:
        yield invalid(path, value, "a percentage is from 0 to 100")


def duration(path: str, text: str | None, *, zero: bool = False) -> Faults:
    """Envoy counts whole milliseconds; `zero` allows what is shorter than one, which switches a timeout off."""
    if text is None:
        return
    length = nanoseconds(text)
    if zero and 0 <= length < _MILLISECOND:
        return
    if length < _MILLISECOND:
        yield invalid(path, text, "a duration is at least 1ms")
    elif length % _MILLISECOND:
        yield invalid(path, text, "a duration is a whole number of milliseconds")


def whole_seconds(path: str, text: str | None) -> Faults:
    if text is not None and nanoseconds(text) % _SECOND:
        yield invalid(path, text, "expected a whole number of seconds")
    else:
        yield from duration(path, text)


def ip_address(path: str, text: str) -> Faults:
    if not is_ip(text):
        yield invalid(path, text, 'expected an IP address, such as "10.0.0.1" or "::1"')


def subnet(path: str, text: str) -> Faults:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        yield invalid(path, text, 'expected an IP address or a range such as "10.0.0.0/24"')


def unix_socket(path: str, address: str) -> Faults:
    """An address that begins with "unix://"."""
    socket = address.removeprefix(UNIX)
    if not socket.startswith(("/", "@")) or socket.endswith("/"):
        yield invalid(path, address, "expected the absolute path of a socket, or @ and an abstract name")


def host_or_ip(path: str, text: str) -> Faults:
    if not is_ip(text) and (fault := host_fault(text, wildcard=False)):
        yield invalid(path, text, f"expected an IP address or a host name: {fault}")


def labels(path: str, values: Mapping[str, str]) -> Faults:
    for key, value in values.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            yield invalid(path, f"{key}={value}", "this is no Kubernetes label")


def selector(path: str, values: Mapping[str, str]) -> Faults:
    """The labels of a workload selector."""
    for key, value in values.items():
        if not key or "*" in key + value:
            yield invalid(path, f"{key}={value}", "a label to select by is a key and a value, without wildcards")
        elif len(value) > _LONGEST_SELECTED:
            yield invalid(path, f"{key}={value}", f"a label's value has at most {_LONGEST_SELECTED} characters")


def selects_all(path: str, values: Mapping[str, str]) -> Faults:
    """The warning for a selector that selects nothing in particular."""
    if not values:
        yield FieldError(path=path, message="a selector without labels applies to all workloads of the namespace")


def export_to(namespace: str, targets: Sequence[str], *, to_no_one: bool = False) -> Faults:
    """`to_no_one` allows "~", which only a ServiceEntry may say."""
    kept = {".": "this namespace", "*": "everyone", "~": "no one"}
    seen: set[str] = set()
    for position, target in enumerate(targets):
        path = f"spec.exportTo[{position}]"
        meant = namespace if target == "." and namespace else target
        if meant in seen:
            yield duplicate(path, target)
        seen.add(meant)
        if target == "~" and not to_no_one:
            yield invalid(path, target, 'only a ServiceEntry may be exported to no one; use "." for this namespace')
        elif target not in kept and not is_label(target):
            choices = '".", "*", "~"' if to_no_one else '".", "*"'
            yield invalid(path, target, f"expected {choices} or the name of a namespace")
        elif target in ("*", "~") and len(targets) > 1:
            yield invalid(path, target, "it stands for everyone or no one, so it must be the only entry")


def target_reference(path: str, target: PolicyTargetReference) -> Faults:
    if not target.name:
        yield required(f"{path}.name")
    if target.namespace:
        yield forbidden(f"{path}.namespace", "a policy refers to objects of its own namespace; leave it out")
    if (target.group, target.kind) not in _TARGETS:
        listed = ", ".join(f"{kind}.{group}" if group else kind for group, kind in _TARGETS if group != "core")
        qualified = f"{target.kind}.{target.group}" if target.group else target.kind
        yield invalid(f"{path}.kind", qualified, f"expected one of {listed}")


def warning(path: str, message: str) -> FieldError:
    """What is valid and still deserves a word."""
    return FieldError(path=path, message=message)
