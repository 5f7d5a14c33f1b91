"""How texts are matched: headers, paths, query parameters, origins (Envoy: StringMatcher)."""

from __future__ import annotations

import enum

from envoy.type.matcher.v3 import regex_pb2, string_pb2

from pilotfish.mesh.records import Record


class How(enum.StrEnum):
    """How a text is matched; ANY: it only has to be there."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"
    ANY = "any"


class Text(Record):
    how: How
    value: str = ""


def string_matcher(text: Text) -> string_pb2.StringMatcher:
    """The matcher of a text. ANY matches every text, the empty one too."""
    match text.how:
        case How.REGEX:
            return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=text.value))
        case How.EXACT:
            return string_pb2.StringMatcher(exact=text.value)
        case How.PREFIX | How.ANY:
            return string_pb2.StringMatcher(prefix=text.value)
