"""The values of patches: pieces of Envoy's configuration, and how they are merged into others."""

from __future__ import annotations

import functools
from typing import Any

from google.protobuf import json_format, message_factory
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from pilotfish.api.anytypes import ANY_KNOWN, descriptor_of
from pilotfish.api.istio_validation.envoy_filter import PATCHED
from pilotfish.mesh.envoy_filters import Patch
from pilotfish.xds.build.common import any_of
from pilotfish.xds.faults import note

_DURATION = "google.protobuf.Duration"


def value_of(patch: Patch) -> Any:
    """A patch's value as the message that it is a piece of, which is shared: it is not to be changed.

    Fields that nobody here knows are left out, as in Istio. None where there is no value, or none that can be read,
    which is noted.
    """
    value, unreadable = _read(patch)
    if unreadable:
        note(patch, unreadable)
    return value


@functools.lru_cache(maxsize=1024)
def _read(patch: Patch) -> tuple[Any, str]:
    """The message, or why there is none."""
    descriptor = descriptor_of(PATCHED[patch.apply_to]) if patch.apply_to in PATCHED else None
    if descriptor is None or not patch.value:
        return None, ""
    made = message_factory.GetMessageClass(descriptor)()
    try:
        # The pool only has to find messages by name, which is less than its annotation asks for.
        return json_format.Parse(patch.value, made, ignore_unknown_fields=True, descriptor_pool=ANY_KNOWN), ""
    except (json_format.ParseError, TypeError) as error:
        return None, f"a {patch.apply_to} cannot be read, and changes nothing: {error}"


def merge(into: Any, patch: Patch) -> None:
    """Merge a patch's value into a message: lists grow (or are replaced, where the operation says so), entries of maps
    and durations are replaced, other messages are merged field by field (Istio: pkg/proto/merge).
    """
    value = value_of(patch)
    if value is not None:
        _merge(into, value, replace_lists=patch.operation == "MERGE_AND_REPLACE_LIST")


def merge_extension(into: Any, patch: Patch) -> None:
    """Merge a filter into another one: the name replaces its name, the configuration is merged into its own."""
    value = value_of(patch)
    if value is None or not into.HasField("typed_config"):
        return
    if value.HasField("typed_config") and not merge_packed(into.typed_config, value.typed_config, patch):
        return
    if value.name:
        into.name = value.name


def merge_packed(into: Packed, value: Packed, patch: Patch) -> bool:
    """Merge what is packed in one message into what is packed in another of the same type.

    Gives False where the types differ or are unknown: then nothing happens, which is noted.
    """
    ours, theirs = _unpacked(into), _unpacked(value)
    if ours is None or theirs is None or ours.DESCRIPTOR is not theirs.DESCRIPTOR:
        theirs_name, ours_name = value.TypeName(), into.TypeName()
        note(patch, f"{theirs_name} cannot be merged into {ours_name}, which stays as it is")
        return False
    _merge(ours, theirs)
    into.CopyFrom(any_of(ours))
    return True


def _unpacked(packed: Packed) -> Any:
    descriptor = descriptor_of(packed.TypeName())
    if descriptor is None:
        return None
    try:
        return message_factory.GetMessageClass(descriptor).FromString(packed.value)
    except DecodeError:
        return None


def _merge(into: Any, value: Any, *, replace_lists: bool = False) -> None:
    for field, given in value.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            ours = getattr(into, field.name)
            for key, entry in given.items():
                if field.message_type.fields_by_name["value"].message_type is None:
                    ours[key] = entry
                else:
                    ours[key].CopyFrom(entry)
        elif _is_list(field):
            if replace_lists:
                into.ClearField(field.name)
            getattr(into, field.name).extend(given)
        elif field.message_type is None:
            setattr(into, field.name, given)
        elif field.message_type.full_name == _DURATION:
            getattr(into, field.name).CopyFrom(given)
        else:
            ours = getattr(into, field.name)
            ours.SetInParent()
            _merge(ours, given, replace_lists=replace_lists)


def _is_list(field: Any) -> bool:
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == FieldDescriptor.LABEL_REPEATED)
