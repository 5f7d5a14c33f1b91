"""The scheme: which kinds exist, under which group, versions and names, and what belongs to each.

A `Kind` holds all that is particular to one kind, so that the rooms that serve, store or read objects need no knowledge
of any. `SCHEME` in `pilotfish.api.kinds` lists them all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pilotfish.api.errors import FieldError
from pilotfish.api.meta import Document, Object, parse_timestamp

T = TypeVar("T", bound=Object)
Cell = str | int | bool | None


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column of `kubectl get`. Priority 0 is always shown, 1 only with `-o wide`."""

    name: str
    cell: Callable[[T], Cell]
    description: str = ""
    priority: int = 0
    type: str = "string"


def _no_defaults(document: Document) -> None:
    return None


def _no_errors(obj: Any) -> Iterable[FieldError]:
    return ()


def _no_update_errors(new: Any, old: Any) -> Iterable[FieldError]:
    return ()


@dataclass(frozen=True, eq=False)
class Kind(Generic[T]):
    """One kind of object.

    `versions` are the served versions, newest first, which share one schema; the first is the stored one.
    `strict` kinds refuse unknown fields whatever the client asks (Istio's); the others keep them.
    `default` fills a document in place; `validate` yields the faults of a typed object, and `validate_update` those
    of a change, given the new object and the old one; `warn` yields what is valid and worth a word to whoever wrote it.
    `name_format` says what a name may be (apimachinery validation): a DNS-1123 subdomain or label, or a DNS-1035 label.
    `grace_period` makes deletion graceful: given the document and the seconds that the client asked for (or None), it
    says how many seconds the object stays before whoever runs it removes it; 0 removes it at once.
    `not_honoured` are the paths of valid fields that change nothing yet, e.g. "spec.ports[].targetPort";
    `istio_neither` are those of fields that change nothing in Istio either, with the reason.
    """

    group: str
    versions: tuple[str, ...]
    kind: str
    plural: str
    type: type[T]
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    subresources: frozenset[str] = frozenset()
    strict: bool = False
    columns: tuple[Column[Any], ...] = ()
    default: Callable[[Document], None] = _no_defaults
    validate: Callable[[T], Iterable[FieldError]] = _no_errors
    validate_update: Callable[[T, T], Iterable[FieldError]] = _no_update_errors
    warn: Callable[[T], Iterable[FieldError]] = _no_errors
    name_format: Literal["subdomain", "label", "dns1035"] = "subdomain"
    grace_period: Callable[[Document, int | None], int] | None = None
    not_honoured: frozenset[str] = frozenset()
    istio_neither: Mapping[str, str] = field(default_factory=dict)

    @property
    def without_effect(self) -> frozenset[str]:
        """The paths of all fields that change nothing."""
        return self.not_honoured | self.istio_neither.keys()

    @property
    def api_version(self) -> str:
        """The `apiVersion` of the stored version, e.g. "apps/v1" or "v1"."""
        return self.api_version_of(self.versions[0])

    def api_version_of(self, version: str) -> str:
        """The `apiVersion` of one served version."""
        return f"{self.group}/{version}" if self.group else version

    @property
    def resource(self) -> str:
        """The name that is unique among all kinds, e.g. "deployments.apps" or "pods"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def __repr__(self) -> str:
        return f"Kind({self.resource})"


AnyKind = Kind[Any]


class Scheme:
    """All kinds, found by what a URL or an object says."""

    def __init__(self, kinds: Iterable[AnyKind]) -> None:
        self._kinds = tuple(kinds)
        self._by_plural = {(k.group, v, k.plural): k for k in self._kinds for v in k.versions}
        self._by_kind = {(k.api_version_of(v), k.kind): k for k in self._kinds for v in k.versions}
        self._by_resource = {k.resource: k for k in self._kinds}

    def __iter__(self) -> Iterator[AnyKind]:
        return iter(self._kinds)

    def by_plural(self, group: str, version: str, plural: str) -> AnyKind | None:
        """The kind behind /apis/{group}/{version}/{plural}; the group of /api/v1 is ""."""
        return self._by_plural.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> AnyKind | None:
        """The kind that a document names with its `apiVersion` and `kind`."""
        return self._by_kind.get((api_version, kind))

    def by_resource(self, resource: str) -> AnyKind | None:
        """The kind of a full resource name, e.g. "deployments.apps"."""
        return self._by_resource.get(resource)

    def search(self, word: str) -> AnyKind | None:
        """The kind that a user means by a plural, singular, kind or short name, as kubectl's mapper finds it."""
        lowered = word.lower()
        for kind in self._kinds:
            names = {kind.plural, kind.singular or kind.kind.lower(), kind.resource, *kind.short_names}
            if lowered in names:
                return kind
        return None


def age(timestamp: str | None, now: dt.datetime | None = None) -> str:
    """How long ago a timestamp was, as kubectl writes it: "20s", "9m19s", "3h5m", "2d4h", "45d", "2y10d"."""
    if not timestamp:
        return "<unknown>"
    seconds = int(((now or dt.datetime.now(dt.UTC)) - parse_timestamp(timestamp)).total_seconds())
    if seconds < 0:
        return "0s" if seconds > -2 else "<invalid>"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return f"{days // 365}y{days % 365}d" if days % 365 else f"{days // 365}y"
    return f"{days // 365}y"


def age_column() -> Column[Any]:
    """The AGE column that nearly every kind has."""
    return Column("Age", lambda obj: age(obj.metadata.creation_timestamp), "Time since the object was created.")
