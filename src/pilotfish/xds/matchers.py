"""Which nodes a client-status request is about: Envoy's `NodeMatcher` and the matchers that it is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import grpc

from pilotfish.xds.node import Refused
from pilotfish.xds.source import ProxyNode


def matches_any(matchers: Iterable[Any], node: ProxyNode) -> bool:
    """Whether one of the `envoy.type.matcher.v3.NodeMatcher` matches, or there is none.

    Raises Refused for a regular expression that is none.
    """
    listed = list(matchers)
    return not listed or any(_node_matches(matcher, node) for matcher in listed)


def _node_matches(matcher: Any, node: ProxyNode) -> bool:
    if matcher.HasField("node_id") and not string_matches(matcher.node_id, node.id):
        return False
    return all(_struct_matches(within, node.metadata) for within in matcher.node_metadatas)


def string_matches(matcher: Any, text: str) -> bool:
    """`envoy.type.matcher.v3.StringMatcher`. Raises Refused."""
    pattern = matcher.WhichOneof("match_pattern")
    if pattern == "safe_regex":
        try:
            return re.fullmatch(matcher.safe_regex.regex, text) is not None
        except re.error as error:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT, f"{matcher.safe_regex.regex!r} is no regular expression: {error}"
            ) from error
    wanted = str(getattr(matcher, pattern)) if pattern else ""
    if matcher.ignore_case:
        wanted, text = wanted.lower(), text.lower()
    match pattern:
        case "exact":
            return text == wanted
        case "prefix":
            return text.startswith(wanted)
        case "suffix":
            return text.endswith(wanted)
        case "contains":
            return wanted in text
    return False


def _struct_matches(matcher: Any, metadata: Mapping[str, Any]) -> bool:
    value: Any = metadata
    for segment in matcher.path:
        value = value.get(segment.key) if isinstance(value, Mapping) else None
    return value_matches(matcher.value, value)


def value_matches(matcher: Any, value: Any) -> bool:
    """`envoy.type.matcher.v3.ValueMatcher`; None is both a null and a value that is not there. Raises Refused."""
    match matcher.WhichOneof("match_pattern"):
        case "null_match":
            return value is None
        case "bool_match":
            return value is matcher.bool_match
        case "string_match":
            return isinstance(value, str) and string_matches(matcher.string_match, value)
        case "double_match":
            return isinstance(value, int | float) and not isinstance(value, bool) and _in(matcher.double_match, value)
        case "present_match":
            return (value is not None) is matcher.present_match
        case "list_match":
            return isinstance(value, list) and any(value_matches(matcher.list_match.one_of, one) for one in value)
        case "or_match":
            return any(value_matches(one, value) for one in matcher.or_match.value_matchers)
    return False


def _in(matcher: Any, value: float) -> bool:
    if matcher.WhichOneof("match_pattern") == "range":
        start, end = matcher.range.start, matcher.range.end
        return bool(start <= value < end)
    return bool(matcher.exact == value)
