"""The fields of the API, from its types, and which of them a document sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pilotfish.api.decode import fields_of
from pilotfish.api.kinds import SCHEME
from pilotfish.api.meta import Struct
from pilotfish.mesh import meshconfig, meshconfig_unused

GROUPS = ("networking.istio.io", "telemetry.istio.io")
MESH_CONFIG = "MeshConfig"
REPEATED_FROM = 5
"""A type of so many fields, when it comes again in one kind, is not written out again."""

_BRACKETS = {"one": "", "list": "[]", "map": "{}"}


@dataclass(frozen=True)
class Field:
    """A field that holds no others; or all of a type (`repeats`: the path at which its fields are written out)."""

    path: str
    repeats: str = ""


@dataclass(frozen=True)
class Table:
    """A kind's fields, in the order of its type, and the paths of those that change nothing.

    `neither` are those of them that change nothing in Istio either, with the reason.
    """

    kind: str
    fields: tuple[Field, ...]
    not_honoured: frozenset[str]
    type: type[Struct] = dataclasses.field(compare=False)
    neither: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    def field(self, path: str) -> Field | None:
        """The field at a path: for one within a type that is not written out again, that type's."""
        found = (each for each in self.fields if each.path == path or (each.repeats and _within(path, each.path)))
        return next(found, None)

    def refused(self, path: str) -> bool:
        """Whether a field, or one that it is within, is among those that change nothing."""
        return any(path == prefix or _within(path, prefix) for prefix in self._whole)

    def refused_values(self, path: str) -> list[str]:
        """The values of a field that change nothing, where others do."""
        pairs = (entry.partition("=") for entry in sorted(self.not_honoured) if "=" in entry)
        return [value for name, _, value in pairs if name == path]

    def refused_below(self, path: str) -> bool:
        """Whether there is anything within a field that changes nothing."""
        return self.refused(path) or any(entry.startswith(path) for entry in self.not_honoured)

    def reason(self, path: str) -> str:
        """Why a field that changes nothing changes nothing in Istio either; nothing where it does."""
        return self.neither.get(path, "") or self.neither.get(f"{path}[]", "")

    @property
    def _whole(self) -> list[str]:
        return [entry.removesuffix("[]") for entry in self.not_honoured if "=" not in entry]


def _within(path: str, other: str) -> bool:
    return path.startswith((other + ".", other + "[", other + "{"))


def tables() -> list[Table]:
    """Every kind of Istio's networking and telemetry API by name, and MeshConfig last."""
    found = []
    for kind in sorted(SCHEME, key=lambda kind: kind.kind):
        if kind.group in GROUPS:
            spec = fields_of(kind.type)["spec"][1]
            assert spec is not None, f"{kind} has no spec"
            found.append(Table(kind.kind, leaves(spec, "spec"), kind.without_effect, kind.type, kind.istio_neither))
    mesh, unused = meshconfig.MeshConfig, meshconfig_unused
    return [*found, Table(MESH_CONFIG, leaves(mesh, ""), unused.NOT_HONOURED, mesh, unused.ISTIO_NEITHER)]


def leaves(cls: type[Struct], path: str) -> tuple[Field, ...]:
    """The fields of a type that is at a path, and of all types within it."""
    return tuple(_walk(cls, path, {}))


def _walk(cls: type[Struct], path: str, seen: dict[type[Struct], str]) -> Iterator[Field]:
    for name, (shape, nested) in fields_of(cls).items():
        where = _below(path, name + _BRACKETS[shape]) if nested else _below(path, name)
        if nested is None or not fields_of(nested):
            yield Field(where)
        elif nested in seen:
            yield Field(where, repeats=seen[nested])
        else:
            if _size(nested) >= REPEATED_FROM:
                seen[nested] = where
            yield from _walk(nested, where, seen)


def _size(cls: type[Struct]) -> int:
    return sum(1 for _ in _walk(cls, "", {}))


def set_by(cls: type[Struct], document: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The path of each field that a document sets, those within others included. What is unknown is passed over."""
    known = fields_of(cls)
    for name, value in document.items():
        if name not in known or value is None:
            continue
        shape, nested = known[name]
        where = _below(path, name + _BRACKETS[shape]) if nested else _below(path, name)
        yield where
        if nested is not None:
            for item in _items(shape, value):
                if isinstance(item, Mapping):
                    yield from set_by(nested, item, where)


def _items(shape: str, value: Any) -> Collection[Any]:
    if shape == "one":
        return (value,)
    if shape == "list":
        return value if isinstance(value, list) else ()
    return value.values() if isinstance(value, Mapping) else ()


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
