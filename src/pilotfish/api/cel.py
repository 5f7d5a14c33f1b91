"""Whether Envoy takes a CEL expression: its syntax, and the functions that Envoy's build of CEL has.

One expression that Envoy refuses keeps a proxy from all that comes with it, so what it would refuse is found before.
Names are not checked: one that stands for nothing has no value, and is no error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_STRING = r"""(?:'''(?s:.*?)'''|\"\"\"(?s:.*?)\"\"\"|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""
_RAW_STRING = r"""(?:'''(?s:.*?)'''|\"\"\"(?s:.*?)\"\"\"|'[^'\n]*'|"[^"\n]*")"""
_TOKEN = re.compile(
    rf"""
    (?P<space> \s+ | //[^\n]*)
  | (?P<number> (?: 0x[0-9a-fA-F]+ | (?:\d+\.\d+|\.\d+)(?:[eE][+-]?\d+)? | \d+[eE][+-]?\d+ | \d+ ) u?)
  | (?P<raw> [bB]?[rR]{_RAW_STRING})
  | (?P<string> [bB]?{_STRING})
  | (?P<name> [A-Za-z_][A-Za-z0-9_]*)
  | (?P<operator> \|\||&&|[<>=!]=|[-+*/%<>!?:.,()\[\]{{}}])
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"""\\(?:(?P<known>[\\?"'`abfnrtv]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2})|.)""", re.DOTALL
)

_RELATIONS = frozenset({"<", "<=", ">", ">=", "==", "!=", "in"})
_RESERVED = frozenset(
    {
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package"),
        *("namespace", "return", "var", "void", "while"),
    }
)

_OF_TEXT = ("matches", "contains", "startsWith", "endsWith")
_OF_TIME = (
    *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
    *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
)
_CONVERSIONS = ("size", "type", "int", "uint", "double", "bool", "bytes", "dyn", "timestamp", "duration")

Counts = Mapping[str, tuple[int, ...]]
"""How many arguments functions may have, in Envoy's default build."""

_FUNCTIONS: Counts = {**dict.fromkeys(_CONVERSIONS, (1,)), **dict.fromkeys(_OF_TEXT, (2,))}
_METHODS: Counts = {"size": (0,), **dict.fromkeys(_OF_TEXT, (1,)), **dict.fromkeys(_OF_TIME, (0, 1))}
_OF_A_MODULE: Counts = {"re.extract": (3,), "re.capture": (2,), "re.captureN": (2,)}
_MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Refused(Exception):
    """What is wrong, for the reader."""


def fault(expression: str) -> str:
    """What Envoy would refuse of an expression, or ""."""
    try:
        _Parser(expression).whole()
    except _Refused as refused:
        return str(refused)
    return ""


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            what = "a string that does not end" if text[at] in "'\"" else f'"{text[at]}"'
            raise _Refused(f"at character {at + 1}: {what} is no part of an expression")
        for escape in _ESCAPE.finditer(found[0]) if found.lastgroup == "string" else ():
            if escape["known"] is None:
                raise _Refused(f"at character {at + 1 + escape.start()}: {escape[0]} stands for no character")
        if found.lastgroup != "space":
            yield _Token(found.lastgroup, found[0], at)
        at = found.end()


class _Parser:
    """Reads an expression by CEL's grammar, each method one of its rules."""

    def __init__(self, text: str) -> None:
        self._tokens = [*_tokens(text), _Token("end", "", len(text))]
        self._position = 0

    def whole(self) -> None:
        self._expression()
        self._expect("")

    @property
    def _next(self) -> _Token:
        return self._tokens[self._position]

    def _take(self) -> _Token:
        token = self._next
        self._position += 1
        return token

    def _skip(self, *texts: str) -> bool:
        """Pass over the next token if it is one of these."""
        if self._next.kind in ("operator", "name") and self._next.text in texts:
            self._position += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        token = self._next
        if token.text != text or token.kind not in ("operator", "end"):
            wanted = f'"{text}"' if text else "the end"
            raise self._unexpected(wanted)
        self._position += 1

    def _unexpected(self, wanted: str) -> _Refused:
        token = self._next
        what = f'"{token.text}"' if token.text else "the end"
        return _Refused(f"at character {token.at + 1}: expected {wanted}, got {what}")

    def _expression(self) -> None:
        self._alternatives()
        if self._skip("?"):
            self._alternatives()
            self._expect(":")
            self._expression()

    def _alternatives(self) -> None:
        self._unary()
        while self._skip("||", "&&", *_RELATIONS, "+", "-", "*", "/", "%"):
            self._unary()

    def _unary(self) -> None:
        while self._skip("!", "-"):
            pass
        self._member()

    def _member(self) -> None:
        name = self._primary()
        while True:
            if self._skip("."):
                selected = self._name(after_dot=True)
                name = f"{name}.{selected}" if name else ""
                if self._skip("("):
                    self._method(selected, name, self._arguments(")"))
                    name = ""
            elif self._skip("["):
                self._expression()
                self._expect("]")
                name = ""
            elif name and self._next.text == "{" and self._next.kind == "operator":
                raise _Refused(f"at character {self._next.at + 1}: Envoy makes no messages in expressions")
            else:
                return

    def _primary(self) -> str:
        """The name, where it is one; else ""."""
        token = self._next
        if token.kind in ("number", "string", "raw"):
            self._take()
            return ""
        if self._skip("("):
            self._expression()
            self._expect(")")
            return ""
        if self._skip("["):
            self._arguments("]")
            return ""
        if self._skip("{"):
            self._entries()
            return ""
        self._skip(".")
        name = self._name()
        if self._skip("("):
            self._function(name)
            return ""
        return "" if name in ("true", "false", "null") else name

    def _name(self, *, after_dot: bool = False) -> str:
        token = self._next
        if token.kind != "name" or token.text == "in" or (token.text in _RESERVED and not after_dot):
            raise self._unexpected("a name" if after_dot else "a value")
        return self._take().text

    def _arguments(self, end: str) -> int:
        """Expressions up to a bracket, and how many they were; a list may end in a comma."""
        count = 0
        while not self._skip(end):
            if count:
                self._expect(",")
                if end == "]" and self._skip(end):
                    break
            self._expression()
            count += 1
        return count

    def _entries(self) -> None:
        first = True
        while not self._skip("}"):
            if not first:
                self._expect(",")
                if self._skip("}"):
                    return
            self._expression()
            self._expect(":")
            self._expression()
            first = False

    def _function(self, name: str) -> None:
        if name == "has":
            before = self._position
            self._expression()
            tested = self._tokens[before : self._position]
            self._expect(")")
            if len(tested) < 3 or tested[-2].text != "." or tested[-1].kind != "name":
                raise _Refused("has() takes a field, as in has(request.headers)")
            return
        self._counted(name, self._arguments(")"), _FUNCTIONS)

    def _method(self, method: str, name: str, count: int) -> None:
        if name in _OF_A_MODULE:
            self._counted(name, count, _OF_A_MODULE)
        elif method in _MACROS:
            raise _Refused(f"{method}() is switched off in Envoy")
        else:
            self._counted(method, count, _METHODS)

    def _counted(self, name: str, count: int, known: Counts) -> None:
        if name not in known:
            raise _Refused(f"Envoy has no function {name}()")
        if count not in known[name]:
            raise _Refused(f"{name}() does not take {count} arguments here")
