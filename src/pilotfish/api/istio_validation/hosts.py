"""Host names as Istio writes them: exact, or with a wildcard in front (Istio: pkg/config/host, validation/agent)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from pilotfish.api.errors import FieldError
from pilotfish.api.faults import invalid, required

_LONGEST_HOST = 255
_LABEL = "[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?"
_IS_LABEL = re.compile(_LABEL)
_IS_FIRST_LABEL = re.compile(rf"\*|(?:\*-?)?{_LABEL}")
_AUTO_PASSTHROUGH_SNI = re.compile(r"outbound_\.?[^_]*\d[^_]*_[^_]*_\.?[^_]*[a-zA-Z].*")


def is_label(text: str) -> bool:
    """Whether a text is one label of a host name; unlike Kubernetes, Istio allows upper case."""
    return _IS_LABEL.fullmatch(text) is not None


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def host_fault(host: str, *, wildcard: bool) -> str:
    """Why a text is no host name, or "" if it is one; with `wildcard` its first label may be, or begin with, a star."""
    if not host:
        return "a host name must not be empty"
    if len(host) > _LONGEST_HOST:
        return f"a host name has at most {_LONGEST_HOST} characters"
    labels = host.split(".")
    first = 0
    if wildcard:
        if not _IS_FIRST_LABEL.fullmatch(labels[0]):
            return f'the label "{labels[0]}" is not 1 to 63 letters, digits and "-", nor a wildcard such as "*"'
        first = 1
    if labels[-1].isdecimal() and len(labels) > first:
        return "the last label of a host name must not be a number"
    # The last label may be empty: "example.com." is the name without a search domain.
    for position, label in enumerate(labels[first:], first):
        if not _IS_LABEL.fullmatch(label) and (label or position != len(labels) - 1):
            return f'the label "{label}" is not 1 to 63 letters, digits and "-"'
    return ""


def sni_fault(host: str, *, gateway: bool) -> str:
    """Why a text is no server name to match; gateways also have those of AUTO_PASSTHROUGH, "outbound_.80_._.<host>"."""
    if gateway and host.startswith("outbound_"):
        return "" if _AUTO_PASSTHROUGH_SNI.fullmatch(host) else 'expected "outbound_.<port>_.<subset>_.<host>"'
    return host_fault(host, wildcard=True)


def overlap(one: str, other: str) -> bool:
    """Whether some name is covered by both hosts."""
    return covers(one, other) or covers(other, one)


def covers(wide: str, narrow: str) -> bool:
    """Whether every name that the narrow host stands for is one of the wide host's (Istio: Name.SubsetOf)."""
    if not wide.startswith("*"):
        return wide == narrow
    if narrow.startswith("*") and len(narrow) < len(wide):
        return False
    return narrow.removeprefix("*").endswith(wide[1:])


def namespaced_host(path: str, text: str, *, gateway: bool) -> Iterator[FieldError]:
    """The faults of "<namespace>/<host>", as in a Gateway's server, where the namespace is optional, and a Sidecar."""
    namespace, slash, host = text.partition("/")
    if not slash:
        if not gateway:
            yield invalid(
                path, text, 'expected "<namespace>/<host>", such as "./*" or "shop/cart.shop.svc.cluster.local"'
            )
            return
        namespace, host = "*", text
    if not namespace or not host:
        yield invalid(path, text, "neither the namespace nor the host may be empty")
        return
    bare = namespace if gateway else namespace.removeprefix("~")
    if bare not in ("", "*", ".") and not is_label(bare):
        yield invalid(path, text, f'"{namespace}" is no namespace; use a name, "." for this one or "*" for all')
    if gateway and is_ip(host):
        return
    if fault := host_fault(host, wildcard=True):
        yield invalid(path, text, fault)
    elif host != "*" and "." not in host:
        full = f"{host}.default.svc.cluster.local"
        yield invalid(path, text, f'"{host}" is a short name; write it in full, such as "{full}"')
    elif "*" in host and host != "*" and not host.startswith("*."):
        yield invalid(path, text, 'a wildcard is a whole label here, such as "*.example.com"')


def subset_name(path: str, name: str) -> Iterator[FieldError]:
    if not name:
        yield required(path, "a subset needs a name")
    elif not is_label(name):
        yield invalid(path, name, 'expected 1 to 63 letters, digits and "-"')
