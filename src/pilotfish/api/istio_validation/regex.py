"""Regular expressions in RE2's syntax, which Envoy reads.

There is no RE2 here: what RE2 lacks is refused by name, and the rest is given to Python's parser with RE2's own
notations replaced by such that Python knows.
"""

from __future__ import annotations

import functools
import re

from pilotfish.api.errors import FieldError
from pilotfish.api.faults import invalid, required

_LONGEST = 1024
_MOST_REPEATS = 1000
_TOKEN = re.compile(
    r"\\Q.*?(?:\\E|$)|\\[pP](?:\{\^?\w+\}|\w)|\\.|\[:\^?\w+:\]|\(\?[^:)]*[:)=!>]?|\{\d+(?:,\d*)?\}|.", re.DOTALL
)
_MISSING = {
    "(?=": "look-ahead",
    "(?!": "look-ahead",
    "(?<=": "look-behind",
    "(?<!": "look-behind",
    "(?>": "atomic groups",
    "(?P=": "back-references",
    "(?(": "conditions",
    "(?#": "comments",
}
_NAMED = re.compile(r"\(\?P?(<\w+>)")
_FLAGS = re.compile(r"\(\?[imsU-]*([:)])")
_SYNTAX = "the syntax is RE2's: https://github.com/google/re2/wiki/Syntax"


def regex(path: str, text: str) -> list[FieldError]:
    """What is wrong with a regular expression; nothing when Envoy takes it."""
    if not text:
        return [required(path, "a regular expression must not be empty")]
    if len(text) > _LONGEST:
        return [invalid(path, f"{text[:32]}…", f"a regular expression has at most {_LONGEST} characters")]
    try:
        compiled(text)
    except re.error as error:
        return [invalid(path, text, f"{error}; {_SYNTAX}")]
    return []


@functools.lru_cache(maxsize=256)
def compiled(text: str) -> re.Pattern[str]:
    """A regular expression in RE2's syntax as Python's. Raises re.error for what is none.

    Classes of Unicode are more than they should be, since Python has none: they match what words are made of.
    """
    try:
        return re.compile("".join(map(_in_python, _TOKEN.findall(text))))
    except (OverflowError, RecursionError) as error:
        raise re.error(str(error)) from error


def _in_python(token: str) -> str:
    """A piece of RE2's syntax in Python's. Raises re.error for what RE2 does not have."""
    if token.startswith("\\Q"):
        return re.escape(token[2:].removesuffix("\\E"))
    if token.startswith(("\\p", "\\P", "[:")):
        return r"\w"
    if token in ("\\z", "\\C"):
        return {"\\z": r"\Z", "\\C": "."}[token]
    if re.fullmatch(r"\\[1-9ZG]", token):
        raise re.error(f"RE2 does not know {token}")
    if token.startswith("(?"):
        for start, name in _MISSING.items():
            if token.startswith(start):
                raise re.error(f"RE2 has no {name}")
        if named := _NAMED.match(token):
            return f"(?P{named[1]}" + token[named.end() :]
        if flags := _FLAGS.fullmatch(token):
            return "(?:" if flags[1] == ":" else "(?:)"
    if token[0] == "{" and len(token) > 1 and max(map(int, re.findall(r"\d+", token))) > _MOST_REPEATS:
        raise re.error(f"RE2 repeats at most {_MOST_REPEATS} times")
    return token
