"""From a document to a typed object, with errors that name the field.

Types are checked by msgspec; this module turns its words into Kubernetes' and finds every unknown field at once, where
msgspec would stop at the first.
"""

from __future__ import annotations

import difflib
import functools
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from pilotfish.api.errors import FieldError, Invalid
from pilotfish.api.faults import invalid, required, unsupported
from pilotfish.api.meta import Document, Object, Struct, metadata_of
from pilotfish.api.scheme import Kind

T = TypeVar("T", bound=Object)

Hook = Callable[[type, Any], Any]
"""msgspec's `dec_hook`: makes values of types that msgspec does not know."""

_MSGSPEC = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`")


def decode(kind: Kind[T], document: Mapping[str, Any]) -> T:
    """The typed object of a document. Raises Invalid with every field whose value has the wrong type."""
    try:
        return msgspec.convert(document, kind.type)
    except msgspec.ValidationError:
        name = str(metadata_of(document).get("name", ""))
        raise Invalid.of(kind.kind, kind.group, name, list(type_faults(kind.type, document))) from None


def type_faults(hint: Any, value: Any, path: str = "", hook: Hook | None = None) -> Iterator[FieldError]:
    """Every part of a value that does not fit a type, with its path; msgspec would stop at the first."""
    try:
        msgspec.convert(value, hint, dec_hook=hook)
    except msgspec.ValidationError as error:
        parts = list(_faults_of_parts(hint, value, path, hook))
        yield from parts or [_type_fault(hint, value, path, error)]


def _faults_of_parts(hint: Any, value: Any, path: str, hook: Hook | None) -> Iterator[FieldError]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        yield from _faults_of_parts(arguments[0], value, path, hook)
    elif origin in (typing.Union, types.UnionType):
        one, *others = (a for a in arguments if a is not types.NoneType)
        if not others:
            yield from _faults_of_parts(one, value, path, hook)
    elif origin in (tuple, list) and isinstance(value, list):
        for position, item in enumerate(value):
            yield from type_faults(arguments[0], item, f"{path}[{position}]", hook)
    elif origin is dict and isinstance(value, Mapping):
        for key, item in value.items():
            yield from type_faults(arguments[1], item, f"{path}[{key}]", hook)
    elif isinstance(hint, type) and issubclass(hint, Struct) and isinstance(value, Mapping):
        hints = typing.get_type_hints(hint, include_extras=True)
        for field in msgspec.structs.fields(hint):
            where = f"{path}.{field.encode_name}" if path else field.encode_name
            if field.encode_name in value:
                yield from type_faults(hints[field.name], value[field.encode_name], where, hook)
            elif field.required:
                yield required(where)


def _type_fault(hint: Any, value: Any, path: str, error: msgspec.ValidationError) -> FieldError:
    """What is wrong with a value as a whole."""
    for shape in _shapes(hint):
        if typing.get_origin(shape) is Literal and isinstance(value, str):
            return unsupported(path, value, typing.get_args(shape))
        if typing.get_origin(shape) is Annotated:
            _, *notes = typing.get_args(shape)
            if described := next((n.description for n in notes if isinstance(n, msgspec.Meta)), None):
                return invalid(path, value, f"expected {described}")
    return field_error(error, path)


def _shapes(hint: Any) -> tuple[Any, ...]:
    """A type hint, or what it is a union of."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def field_error(error: msgspec.ValidationError, path: str = "") -> FieldError:
    """What msgspec refused, in Kubernetes' words; `path` is where the refused value stands in its document."""
    found = _MSGSPEC.match(str(error))
    assert found is not None
    where = (found["path"] or "").lstrip(".").replace("[...]", "[*]")
    whole = f"{path}.{where}" if path and where else path or where
    return FieldError(path=whole, message=_explain(found["what"]), reason="FieldValueTypeInvalid")


def decode_bytes(kind: Kind[T], body: bytes) -> T:
    """The typed object of serialised JSON that has been accepted before; raises msgspec.ValidationError otherwise."""
    obj: T = _decoder(kind.type).decode(body)
    return obj


@functools.cache
def _decoder(cls: type[Object]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cls)


def encode(obj: Object) -> Document:
    """The document of a typed object. Fields that its type does not know are not in it: patch what others wrote."""
    document: Document = msgspec.to_builtins(obj)
    return document


def _explain(what: str) -> str:
    if found := _EXPECTED.search(what):
        # That a field which may be left out may be null too is nothing that the reader asked for.
        wanted = [name for name in found["wanted"].split(" | ") if name != "null"] or ["null"]
        return f"Invalid value: expected {' or '.join(map(_in_words, wanted))}, got {_in_words(found['got'])}"
    if found := re.search(r"missing required field `([^`]*)`", what):
        return f"Required value: {found[1]} is missing"
    return f"Invalid value: {what}"


_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "nothing",
}
"""What msgspec calls the types of JSON, for readers."""


def _in_words(name: str) -> str:
    return _WORDS.get(name, name)


def unknown_fields(cls: type[Struct], document: Mapping[str, Any], path: str = "") -> Iterator[FieldError]:
    """Every field of the document that the type does not have, with its path and the nearest known name."""
    known = fields_of(cls)
    for name, value in document.items():
        where = f"{path}.{name}" if path else name
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f', did you mean "{near[0]}"?' if near else ""
            yield FieldError(path=where, message=f"unknown field{hint}", reason="FieldValueNotSupported")
            continue
        shape, nested = known[name]
        if nested is None:
            continue
        if shape == "one" and isinstance(value, Mapping):
            yield from unknown_fields(nested, value, where)
        elif shape == "list" and isinstance(value, list):
            for position, item in enumerate(value):
                if isinstance(item, Mapping):
                    yield from unknown_fields(nested, item, f"{where}[{position}]")
        elif shape == "map" and isinstance(value, Mapping):
            for key, item in value.items():
                if isinstance(item, Mapping):
                    yield from unknown_fields(nested, item, f"{where}[{key}]")


@functools.cache
def fields_of(cls: type[Struct]) -> dict[str, tuple[str, type[Struct] | None]]:
    """A struct's fields by wire name: how a nested struct is held ("one", "list" or "map"), and which (or None)."""
    hints = typing.get_type_hints(cls)
    return {f.encode_name: _nested(hints[f.name]) for f in msgspec.structs.fields(cls)}


def _nested(hint: Any) -> tuple[str, type[Struct] | None]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return next((n for n in map(_nested, arguments) if n[1] is not None), ("one", None))
    if origin in (tuple, list) and arguments:
        return "list", _nested(arguments[0])[1]
    if origin is dict:
        return "map", _nested(arguments[1])[1]
    if isinstance(hint, type) and issubclass(hint, Struct):
        return "one", hint
    return "one", None


def present_paths(document: Any, paths: frozenset[str]) -> list[str]:
    """Which of the given paths the document has a value at, in the order of the paths.

    Lists are written "ports[]"; a path may end in a value that it is about: "spec.resolution=DNS".
    """

    def has(value: Any, steps: list[str]) -> bool:
        if not steps:
            return value is not None
        step, rest = steps[0], steps[1:]
        if step.endswith("[]"):
            items = value.get(step[:-2]) if isinstance(value, Mapping) else None
            return isinstance(items, list) and any(has(item, rest) for item in items)
        name, equals, wanted = step.partition("=")
        if not isinstance(value, Mapping) or name not in value:
            return False
        return value[name] == wanted if equals else has(value[name], rest)

    return [path for path in sorted(paths) if has(document, path.split("."))]
