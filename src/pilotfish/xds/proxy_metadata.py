"""What proxies say of themselves, in the metadata of their nodes."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pilotfish.api.durations import decode_hook
from pilotfish.api.meta import Struct

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Struct)


def read(cls: type[S], document: Any) -> S | None:
    """The message that a proxy's metadata holds; None where there is none, or none that can be read."""
    if not isinstance(document, Mapping) or not document:
        return None
    found: S | None = _converted(cls, json.dumps(document, sort_keys=True))
    return found


@functools.lru_cache(maxsize=256)
def _converted(cls: type[Struct], text: str) -> Any:
    """Numbers are decimal fractions in metadata, whole or not."""
    whole = json.loads(text, parse_float=_number)
    try:
        return msgspec.convert(whole, cls, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        log.warning("what a proxy says of itself is passed over: %s in %s", error, text)
        return None


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number
