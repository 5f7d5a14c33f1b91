"""Messages inside messages (`google.protobuf.Any`) whose types only their names tell."""

from __future__ import annotations

import base64
import importlib
import pkgutil
from typing import Any

from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import Descriptor


def descriptor_of(name: str) -> Descriptor | None:
    """The descriptor of a message by its full name, from whichever module of its package has it, or None."""
    pool = descriptor_pool.Default()
    try:
        return pool.FindMessageTypeByName(name)
    except KeyError:
        _import_package(name)
    try:
        return pool.FindMessageTypeByName(name)
    except KeyError:
        return None


def as_json(message: Any) -> Any:
    """A message as Envoy's admin interface writes it: JSON with the names of the .proto file.

    What is packed inside it is written out; where its type is known to nobody here, all of the message is shown as
    `{"@type": …, "value": <base64>}`.
    """
    try:
        return json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=ANY_KNOWN)
    except TypeError:
        body = base64.b64encode(message.SerializeToString()).decode()
        return {"@type": f"type.googleapis.com/{message.DESCRIPTOR.full_name}", "value": body}


class _AnyKnown:
    """A descriptor pool, as far as protobuf's JSON form needs one, that looks for modules by itself."""

    def FindMessageTypeByName(self, name: str) -> Descriptor:  # noqa: N802 (protobuf's name)
        descriptor = descriptor_of(name)
        if descriptor is None:
            raise KeyError(name)
        return descriptor


ANY_KNOWN: Any = _AnyKnown()


def _import_package(message: str) -> None:
    package = ".".join(part for part in message.split(".") if part[:1].islower())
    try:
        found = importlib.import_module(package)
        for module in pkgutil.iter_modules(found.__path__):
            if module.name.endswith("_pb2"):
                importlib.import_module(f"{package}.{module.name}")
    except (ImportError, ValueError, AttributeError):
        return  # nobody here knows it
