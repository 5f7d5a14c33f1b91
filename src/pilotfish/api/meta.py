"""Object metadata and the base of every kind, as Kubernetes' apimachinery defines them (meta/v1)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, ClassVar, dataclass_transform

import msgspec

Document = dict[str, Any]
"""An object as it is on the wire: decoded JSON. Stores and API servers pass documents; everyone else reads types."""
IntOrString = int | str


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Struct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The base of all typed API data: frozen, camelCase on the wire, defaults left out.

    `ONE_OF` are groups of fields of which at most one may be set (protobuf's oneof); unset ones are None.
    """

    ONE_OF: ClassVar[tuple[tuple[str, ...], ...]] = ()


class OwnerReference(Struct):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(Struct):
    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    managed_fields: Any = None
    self_link: str = ""

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that controls this object, or None."""
        return next((ref for ref in self.owner_references if ref.controller), None)


class Object(Struct):
    """What every kind has. `api_version` and `kind` are as served, e.g. "apps/v1" and "Deployment"."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name); the namespace is "" for cluster-scoped kinds."""
        return self.metadata.namespace, self.metadata.name


class Condition(Struct):
    """A status condition; serves both Kubernetes' and Istio's conditions, which differ only in what they leave out."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    observed_generation: int | None = None
    last_transition_time: str | None = None
    last_update_time: str | None = None
    last_probe_time: str | None = None
    last_heartbeat_time: str | None = None


class LabelSelectorRequirement(Struct):
    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(Struct):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


class ObjectReference(Struct):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class LocalObjectReference(Struct):
    name: str = ""


def timestamp(moment: dt.datetime | None = None) -> str:
    """RFC 3339 in UTC with whole seconds, as meta/v1 Time is written; the present moment when none is given."""
    return (moment or dt.datetime.now(dt.UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(moment: dt.datetime | None = None) -> str:
    """RFC 3339 in UTC with microseconds, as meta/v1 MicroTime is written."""
    return (moment or dt.datetime.now(dt.UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: str) -> dt.datetime:
    """The moment that an RFC 3339 text names, aware. Raises ValueError when it is no such text."""
    return dt.datetime.fromisoformat(text)


def metadata_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document's metadata, or an empty mapping where it has none."""
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, dict) else {}
