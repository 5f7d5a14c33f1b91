"""Envoy's configuration as JSON: what of a value is no such message, with the path of each field.

protobuf's own reader says what is wrong in its own words and stops at the first fault; here every one of them has a
path that a user finds in the file, and what was expected.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from pilotfish.api.anytypes import ANY_KNOWN, descriptor_of


class Fault(NamedTuple):
    """What is wrong with the value at `path` ("a.b[0]"; "" is the whole). `unknown` is a field or a choice that may be
    one in another version of Envoy: readers of protobuf's JSON can pass over these.
    """

    path: str
    expected: str
    unknown: bool = False


_ANY = "google.protobuf.Any"
_WELL_KNOWN = {
    "google.protobuf.Duration": 'a duration such as "1.5s"',
    "google.protobuf.Timestamp": 'a time such as "2026-01-31T12:00:00Z"',
    "google.protobuf.FieldMask": 'names of fields such as "a,bB"',
    "google.protobuf.Struct": "an object",
    "google.protobuf.ListValue": "a list",
    "google.protobuf.Value": "any JSON value",
    "google.protobuf.BoolValue": "true or false",
    "google.protobuf.StringValue": "a text",
    "google.protobuf.BytesValue": "a text in base64",
    "google.protobuf.Int32Value": "a whole number of 32 bits",
    "google.protobuf.Int64Value": "a whole number of 64 bits",
    "google.protobuf.UInt32Value": "a whole number of 32 bits from 0 on",
    "google.protobuf.UInt64Value": "a whole number of 64 bits from 0 on",
    "google.protobuf.FloatValue": "a number",
    "google.protobuf.DoubleValue": "a number",
}
"""Messages with a JSON form of their own."""
_SCALARS = {
    FieldDescriptor.TYPE_BOOL: _WELL_KNOWN["google.protobuf.BoolValue"],
    FieldDescriptor.TYPE_STRING: _WELL_KNOWN["google.protobuf.StringValue"],
    FieldDescriptor.TYPE_BYTES: _WELL_KNOWN["google.protobuf.BytesValue"],
    FieldDescriptor.TYPE_DOUBLE: _WELL_KNOWN["google.protobuf.DoubleValue"],
    FieldDescriptor.TYPE_FLOAT: _WELL_KNOWN["google.protobuf.FloatValue"],
    **dict.fromkeys(
        (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32),
        _WELL_KNOWN["google.protobuf.Int32Value"],
    ),
    **dict.fromkeys(
        (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64),
        _WELL_KNOWN["google.protobuf.Int64Value"],
    ),
    **dict.fromkeys(
        (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32), _WELL_KNOWN["google.protobuf.UInt32Value"]
    ),
    **dict.fromkeys(
        (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64), _WELL_KNOWN["google.protobuf.UInt64Value"]
    ),
}
_FEW = 12
"""How many choices of an enumeration are listed."""


def faults(value: Any, message: str) -> tuple[Fault, ...]:
    """What of a JSON value keeps it from being this message, by its full name ("envoy.config.cluster.v3.Cluster").

    Raises LookupError when nobody here knows the message.
    """
    descriptor = descriptor_of(message)
    if descriptor is None:
        raise LookupError(f"no module here has the message {message}")
    try:
        found = tuple(_message(value, descriptor, ""))
    except RecursionError:
        found = ()
    if found or _is(value, descriptor):
        return found
    return (Fault("", f"{descriptor.full_name}, with fewer levels of nesting"),)


def _message(value: Any, descriptor: Descriptor, path: str) -> Iterator[Fault]:
    if descriptor.full_name == _ANY:
        yield from _any(value, path)
    elif descriptor.full_name in _WELL_KNOWN:
        if not _is(value, descriptor):
            yield Fault(path, _WELL_KNOWN[descriptor.full_name])
    elif not isinstance(value, Mapping):
        yield Fault(path, f"an object ({descriptor.full_name})")
    else:
        yield from _fields(value, descriptor, path)


def _fields(value: Mapping[str, Any], descriptor: Descriptor, path: str) -> Iterator[Fault]:
    known = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    chosen: dict[str, str] = {}
    for name, given in value.items():
        at = f"{path}.{name}" if path else name
        field = known.get(name)
        if field is None:
            yield Fault(at, _unknown(name, descriptor, known), unknown=True)
            continue
        if given is None and not _is_value(field):
            continue
        choice = field.containing_oneof
        if choice is not None and (other := chosen.setdefault(choice.name, name)) != name:
            yield Fault(at, f"nothing, since {other} is there: of {descriptor.full_name}.{choice.name} there is one")
        yield from _field(given, field, at)


def _field(value: Any, field: FieldDescriptor, path: str) -> Iterator[Fault]:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        if not isinstance(value, Mapping):
            yield Fault(path, "an object")
            return
        for key, item in value.items():
            yield from _single(item, entry.fields_by_name["value"], f"{path}[{key}]")
    elif field.is_repeated:
        if not isinstance(value, list):
            yield Fault(path, "a list")
            return
        for position, item in enumerate(value):
            yield from _single(item, field, f"{path}[{position}]")
    else:
        yield from _single(value, field, path)


def _single(value: Any, field: FieldDescriptor, path: str) -> Iterator[Fault]:
    if field.message_type is not None:
        yield from _message(value, field.message_type, path)
        return
    asked = [value] if field.is_repeated else value
    if field.containing_type is None or _is({field.name: asked}, field.containing_type):
        return
    if field.enum_type is None:
        yield Fault(path, _SCALARS[field.type])
    else:
        yield Fault(path, _choices(field.enum_type), unknown=isinstance(value, str))


def _any(value: Any, path: str) -> Iterator[Fault]:
    """A packed message: its type under "@type", and beside that its fields, or "value" where its form is its own."""
    if not isinstance(value, Mapping):
        yield Fault(path, 'an object with "@type"')
        return
    if not value:
        return
    url = value.get("@type")
    at = f"{path}.@type" if path else "@type"
    if not isinstance(url, str) or "/" not in url:
        yield Fault(at, 'the type of what is packed, such as "type.googleapis.com/envoy.config.cluster.v3.Cluster"')
        return
    name = url.rpartition("/")[2]
    gone = name.startswith("envoy.") and ".v2." in name
    descriptor = descriptor_of(name)
    if gone or descriptor is None:
        hint = "; Envoy's types of version 2 are gone, use those of version 3" if gone else ""
        yield Fault(at, f"a type that is known; {name} is not{hint}")
    elif descriptor.full_name in _WELL_KNOWN or descriptor.full_name == _ANY:
        yield from _message(value.get("value"), descriptor, f"{path}.value" if path else "value")
    else:
        yield from _fields({key: item for key, item in value.items() if key != "@type"}, descriptor, path)


def _is(value: Any, descriptor: Descriptor) -> bool:
    """Whether protobuf's own reader takes the value."""
    try:
        json_format.ParseDict(value, message_factory.GetMessageClass(descriptor)(), descriptor_pool=ANY_KNOWN)
    except (json_format.ParseError, TypeError, ValueError, AttributeError):
        return False
    return True


def _is_value(field: FieldDescriptor) -> bool:
    """Whether null is a value of the field, and not the same as none."""
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Value"


def _unknown(name: str, descriptor: Descriptor, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return f"a field of {descriptor.full_name}{hint}"


def _choices(enumeration: EnumDescriptor) -> str:
    names = [value.name for value in enumeration.values]
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f"one of {', '.join(names[:_FEW])}{more}"
