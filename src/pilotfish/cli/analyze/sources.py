"""Where the objects of an analysis come from: files, the API, and what is taken to be there without either."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import yaml

from pilotfish.analysis import messages
from pilotfish.analysis.messages import Message, path_of
from pilotfish.api.core import ConfigMap, Service, ServicePort, ServiceSpec
from pilotfish.api.decode import decode, type_faults, unknown_fields
from pilotfish.api.errors import Invalid, NotFound
from pilotfish.api.kinds import (
    CONFIG_MAP,
    ENDPOINT_SLICE,
    ENDPOINTS,
    EVENT,
    ISTIO_OPERATOR,
    POD,
    REPLICA_SET,
    SCHEME,
    SERVICE,
    SERVICE_ACCOUNT,
)
from pilotfish.api.meta import Document, Object, ObjectMeta, metadata_of
from pilotfish.api.pods import Pod
from pilotfish.api.scheme import AnyKind
from pilotfish.cli.get import items_of
from pilotfish.cli.manifests import Fault, Manifest, line_of, read_manifests
from pilotfish.client.http import HTTPClient
from pilotfish.client.paths import path_of as api_path
from pilotfish.mesh import meshconfig

_IGNORED = frozenset({ENDPOINTS, ENDPOINT_SLICE, EVENT, ISTIO_OPERATOR, REPLICA_SET, SERVICE_ACCOUNT})
"""Kinds that no analyzer looks at."""
_SYSTEM = "istio-system"
_INGRESS = {"app": "istio-ingressgateway", "istio": "ingressgateway"}


@dataclass(frozen=True)
class Place:
    """Where an object was written: "mesh.yaml:12", with the YAML node whose lines tell where its fields are."""

    place: str
    node: yaml.Node | None

    def at(self, path: Sequence[str | int]) -> str:
        """The place of a field, or of the object where the field is not to be found."""
        name, colon, number = self.place.partition(", ")[0].rpartition(":")
        line = line_of(self.node, path)
        return f"{name}:{line}" if line is not None and colon and number.isdecimal() else self.place


@dataclass
class Loaded:
    """Objects, what was wrong with them by themselves, and where they were written."""

    objects: list[tuple[AnyKind, Object]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    places: dict[tuple[str, str, str], Place] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    """Documents that could not be read."""

    def place_of(self, obj: Object) -> Place | None:
        return self.places.get((obj.kind, obj.namespace, obj.name))


def from_files(sources: Iterable[str], namespace: str, *, recursive: bool = True) -> Loaded:
    """The objects of files and folders, completed as the API would; those without a namespace are in `namespace`.

    Kinds that we do not have are passed over. Raises click.UsageError where a source is missing.
    """
    loaded = Loaded()
    for found in read_manifests(sources, recursive=recursive):
        if isinstance(found, Fault):
            if not found.unknown:
                loaded.faults.append(found)
        elif found.kind not in _IGNORED:
            _add_manifest(loaded, found, namespace)
    return loaded


def _add_manifest(loaded: Loaded, manifest: Manifest, namespace: str) -> None:
    kind, document = manifest.kind, copy.deepcopy(manifest.document)
    metadata = metadata_of(document)
    if kind.namespaced:
        metadata.setdefault("namespace", namespace)
    document |= {"apiVersion": kind.api_version, "kind": kind.kind}
    kind.default(document)
    _add(loaded, kind, document)
    key = (kind.kind, metadata.get("namespace", "") if kind.namespaced else "", metadata["name"])
    loaded.places[key] = Place(manifest.place, manifest.node)


def _add(loaded: Loaded, kind: AnyKind, document: Document) -> None:
    """Decode a document; what its type does not allow becomes a message, and the object is left out."""
    try:
        obj = decode(kind, document)
    except Invalid:
        about = metadata_of(document)
        metadata = ObjectMeta(name=str(about.get("name", "")), namespace=str(about.get("namespace", "")))
        obj = Object(api_version=kind.api_version, kind=kind.kind, metadata=metadata)
        loaded.messages += [
            messages.SCHEMA_VALIDATION_ERROR.about(obj, fault, at=path_of(fault))
            for fault in type_faults(kind.type, document)
        ]
        return
    loaded.objects.append((kind, obj))
    if kind.strict:
        loaded.messages += [
            messages.SCHEMA_VALIDATION_ERROR.about(obj, fault, at=path_of(fault))
            for fault in unknown_fields(kind.type, document)
        ]


async def from_api(client: HTTPClient) -> Loaded:
    """All objects that the API has of the kinds that analyzers look at. Raises ApiError."""
    kinds = [kind for kind in SCHEME if kind not in _IGNORED]
    loaded = Loaded()
    for kind, documents in zip(kinds, await asyncio.gather(*(_list(client, kind) for kind in kinds)), strict=True):
        for document in documents:
            _add(loaded, kind, document)
    return loaded


async def _list(client: HTTPClient, kind: AnyKind) -> list[Document]:
    """Of ConfigMaps those of the control plane; none of a kind that the server does not have."""
    namespace = _SYSTEM if kind is CONFIG_MAP else None
    try:
        return items_of(kind, await client.request_json("GET", api_path(kind, namespace)))
    except NotFound:
        return []


def without_api() -> Iterator[tuple[AnyKind, Object]]:
    """The ingress gateway that every installation has, for files that are analysed by themselves."""
    pod = ObjectMeta(name="istio-ingressgateway", namespace=_SYSTEM, labels=_INGRESS)
    service = ObjectMeta(name="istio-ingressgateway", namespace=_SYSTEM, labels=_INGRESS)
    ports = (
        ServicePort(port=15021, name="status-port", target_port=15021),
        ServicePort(port=80, name="http2", target_port=8080),
        ServicePort(port=443, name="https", target_port=8443),
    )
    yield POD, Pod(api_version="v1", kind="Pod", metadata=pod)
    yield (
        SERVICE,
        Service(api_version="v1", kind="Service", metadata=service, spec=ServiceSpec(ports=ports, selector=_INGRESS)),
    )


def mesh_config(text: str) -> tuple[AnyKind, Object]:
    """A mesh configuration given as YAML, as the object that holds the mesh's."""
    metadata = ObjectMeta(name=meshconfig.CONFIG_MAP, namespace=_SYSTEM)
    data = {meshconfig.CONFIG_MAP_KEY: text}
    return CONFIG_MAP, ConfigMap(api_version="v1", kind="ConfigMap", metadata=metadata, data=data)
