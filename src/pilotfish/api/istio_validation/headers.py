"""HTTP header names and values (Istio: validation.go and header_value_validator.go, after Envoy's header parser)."""

from __future__ import annotations

import re

from pilotfish.api.errors import FieldError
from pilotfish.api.faults import forbidden, invalid, required
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.http_route import HeaderOperations, Headers

_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~A-Za-z0-9]+")
_PSEUDO = {":method", ":scheme", ":authority", ":path", ":status"}
_CLAIM = re.compile(r"@request\.auth\.claims(\..+|\[.+\])", re.IGNORECASE | re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_STRING = r'"(?:\\.|[^"\\)])*"'
_VARIABLE = rf"[^%(]*(?:\( *(?:\[ *{_STRING} *(?:, *{_STRING} *)*\] *|[^ \[](?:\\.|[^)\\\"])*)\) *)?"
_VALUE = re.compile(rf"(?:[^%]|%%|%{_VARIABLE}%)*", re.DOTALL)


def is_claim(name: str) -> bool:
    """Whether a name stands for a claim of the request's JWT, e.g. "@request.auth.claims.group"."""
    return _CLAIM.fullmatch(name) is not None


def matched_name(path: str, name: str) -> Faults:
    """A header that a route matches on."""
    if not name:
        yield required(path, "a header's name must not be empty")
    elif not is_claim(name) and name not in _PSEUDO and not _TOKEN.fullmatch(name):
        yield invalid(path, name, "this is no HTTP header's name")


def cors_name(path: str, name: str) -> Faults:
    if not name:
        yield required(path, "a header's name must not be empty")
    elif not _TOKEN.fullmatch(name):
        yield invalid(path, name, "this is no HTTP header's name")


def is_authority(name: str) -> bool:
    return name.lower() in (":authority", "host")


def operations(path: str, headers: Headers) -> Faults:
    """Changes of headers. Of those that make up the request line only the authority can be set."""
    yield from _operations(f"{path}.request", headers.request, authority=True)
    yield from _operations(f"{path}.response", headers.response, authority=False)


def _operations(path: str, headers: HeaderOperations, *, authority: bool) -> Faults:
    for field, values in (("set", headers.set), ("add", headers.add)):
        for name, value in values.items():
            where = f"{path}.{field}[{name}]"
            if not (authority and is_authority(name)):
                yield from _changed_name(where, name)
            yield from _value(where, value)
    for position, name in enumerate(headers.remove):
        yield from _changed_name(f"{path}.remove[{position}]", name)


def _changed_name(path: str, name: str) -> Faults:
    if not name:
        yield required(path, "a header's name must not be empty")
    elif name.startswith(":") or name.lower() == "host":
        yield invalid(path, name, "this header is part of the request line; use rewrite to change where a request goes")


def _value(path: str, value: str) -> Faults:
    if _CONTROL.search(value):
        yield invalid(path, value, "a header's value has no control characters")
    elif not _VALUE.fullmatch(value):
        yield invalid(path, value, "write a percent sign as %%; alone it begins a variable such as %REQ(x-id)%")


def authority_set_once(path: str, headers: Headers, rewritten: str) -> list[FieldError]:
    """A fault when the authority is changed in more than one place; `rewritten` is what `rewrite` makes of it."""
    places = [f"{path}.rewrite.authority"] if rewritten else []
    for field, values in (("set", headers.request.set), ("add", headers.request.add)):
        places += [f"{path}.headers.request.{field}[{name}]" for name in values if is_authority(name)]
    return [forbidden(place, f"the authority is set by {places[0]} already") for place in places[1:]]
