"""Which objects a list or a watch is about: by label, by field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pilotfish.api.selectors import parse_field_selector, parse_label_selector

Selection = Callable[[bytes], bool]
"""Whether an object, given as its JSON, is meant."""


class _Labelled(msgspec.Struct):
    class Metadata(msgspec.Struct):
        labels: dict[str, str] = {}

    metadata: Metadata


_labelled = msgspec.json.Decoder(_Labelled)


def select(labels: str = "", fields: str = "") -> Selection | None:
    """The selection that two selectors make; None when both are empty, which means everything. Raises BadRequest."""
    if not labels and not fields:
        return None
    by_label = parse_label_selector(labels) if labels else None
    by_field = parse_field_selector(fields) if fields else None

    def chosen(body: bytes) -> bool:
        if by_label and not by_label(_labelled.decode(body).metadata.labels):
            return False
        if by_field is None:
            return True
        document: dict[str, Any] = msgspec.json.decode(body)
        return by_field(document)

    return chosen
