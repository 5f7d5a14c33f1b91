"""Protobuf's own JSON from Envoy's: fields named in lower camel case, as istioctl prints them and `jq` users know them.

Envoy's admin interface writes the names of the .proto files. Which keys are fields and which are somebody's data only
the message's descriptor tells, so that is what we go by; messages that we do not know stay as they are.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from pilotfish.api.anytypes import descriptor_of

_ANY = "google.protobuf.Any"
_TYPE = "@type"


def camel_case(value: Any, message: str, *, known_only: bool = False) -> Any:
    """The JSON form of a message of that full name (or a list of them) with its fields' JSON names.

    `known_only` leaves out fields that its descriptor does not have: an Envoy may be newer than our messages.
    """
    if isinstance(value, list):
        return [camel_case(one, message, known_only=known_only) for one in value]
    descriptor = descriptor_of(message)
    return value if descriptor is None else _message(value, descriptor, known_only)


def _message(value: Any, descriptor: Descriptor, known_only: bool) -> Any:
    if descriptor.full_name == _ANY:
        return _any(value, known_only)
    if not isinstance(value, dict) or descriptor.file.package == "google.protobuf":
        return value  # the well-known types have forms of their own
    renamed: dict[str, Any] = {}
    for key, item in value.items():
        field = descriptor.fields_by_name.get(key)
        if field is not None:
            renamed[field.json_name] = _field(item, field, known_only)
        elif not known_only:
            renamed[key] = item
    return renamed


def _any(value: Any, known_only: bool) -> Any:
    if not isinstance(value, dict) or _TYPE not in value:
        return value
    within = descriptor_of(str(value[_TYPE]).rpartition("/")[2])
    if within is None or within.file.package == "google.protobuf":
        return value
    body = {key: item for key, item in value.items() if key != _TYPE}
    return {_TYPE: value[_TYPE], **_message(body, within, known_only)}


def _field(value: Any, field: FieldDescriptor, known_only: bool) -> Any:
    of = field.message_type
    if of is None:
        return value
    if of.GetOptions().map_entry and isinstance(value, dict):
        within = of.fields_by_name["value"]
        return {key: _field(item, within, known_only) for key, item in value.items()}
    if isinstance(value, list):
        return [_message(item, of, known_only) for item in value]
    return _message(value, of, known_only)
