"""Objects as YAML and JSON, the way kubectl prints them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import yaml

from pilotfish.api.meta import Document, metadata_of


def without_managed_fields(document: Document) -> Document:
    """The object without the bookkeeping of server-side apply, which nobody wants to read."""
    metadata = {name: value for name, value in metadata_of(document).items() if name != "managedFields"}
    return {**document, "metadata": metadata}


def as_list(items: Sequence[Document]) -> Document:
    """Several objects as one document, which `apply -f` takes again."""
    return {"apiVersion": "v1", "items": list(items), "kind": "List", "metadata": {"resourceVersion": ""}}


def as_json(document: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=4).decode()


def as_yaml(document: Any) -> str:
    """Keys in order, texts of several lines as blocks; ends with a newline."""
    return yaml.dump(document, Dumper=_Dumper, allow_unicode=True, width=2**31)


class _Dumper(yaml.SafeDumper):
    """YAML without aliases, as people read it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
