"""Bodies and representations: what a client sends (JSON, YAML, protobuf), and the form in which it wants the answer."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import yaml

from pilotfish.api.errors import BadRequest, NotAcceptable, UnsupportedMediaType
from pilotfish.apiserver import protobuf

JSON = "application/json"
YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})

IncludeObject = Literal["None", "Metadata", "Object"]


@dataclass(frozen=True, slots=True)
class Representation:
    """The form of an answer: the objects themselves, a table of them, or their metadata alone."""

    form: Literal["object", "table", "metadata"] = "object"
    include: IncludeObject = "Metadata"


def media_type(header: str) -> tuple[str, dict[str, str]]:
    """A media type and its parameters, from one entry of an Accept or Content-Type header."""
    name, *parameters = (part.strip() for part in header.split(";"))
    pairs = (parameter.partition("=") for parameter in parameters)
    return name.lower(), {key.strip(): value.strip().strip('"') for key, _, value in pairs}


def representation(accept: str, include_object: str = "") -> Representation:
    """The first form of an Accept header that can be served. Raises NotAcceptable when there is none."""
    for entry in filter(None, (e.strip() for e in (accept or JSON).split(","))):
        name, parameters = media_type(entry)
        if name not in (JSON, "*/*", "application/*"):
            continue
        form = parameters.get("as", "")
        if form == "Table" and parameters.get("v") == "v1":
            include: IncludeObject = {"None": "None", "Object": "Object"}.get(include_object, "Metadata")  # type: ignore[assignment]
            return Representation("table", include)
        if form in ("PartialObjectMetadata", "PartialObjectMetadataList") and parameters.get("v") == "v1":
            return Representation("metadata")
        if not form:
            return Representation()
    raise NotAcceptable(
        f"only the following media types are accepted: {JSON}, {JSON};as=Table;v=v1;g=meta.k8s.io, "
        f"{JSON};as=PartialObjectMetadata;v=v1;g=meta.k8s.io (the request accepts {accept})"
    )


def parse_body(body: bytes, content_type: str) -> Any:
    """The document of a request's body. Raises BadRequest when it cannot be read, or UnsupportedMediaType."""
    name, _ = media_type(content_type or JSON)
    if name == protobuf.MEDIA_TYPE:
        return protobuf.decode_protobuf(body)
    if name in YAML_TYPES or name.endswith("+yaml"):
        try:
            return yaml.load(body, Loader=_YamlLoader)
        except yaml.YAMLError as error:
            raise BadRequest(f"the body is not YAML: {error}") from error
    if name != JSON and not name.endswith("+json"):
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format ({name}) - accepted media types include: {JSON}, "
            "application/yaml"
        )
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error


def duplicate_fields(body: bytes, content_type: str) -> tuple[str, ...]:
    """The names of fields that stand twice in one object of a body that has been read before."""
    name, _ = media_type(content_type or JSON)
    if name == protobuf.MEDIA_TYPE:
        return ()
    found: list[str] = []

    def note(pairs: list[tuple[Hashable, Any]]) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key, _ in pairs:
            if key in seen:
                found.append(str(key))
            seen.add(key)
        return dict(pairs)

    if name in YAML_TYPES or name.endswith("+yaml"):
        _note_yaml(yaml.compose(body, Loader=_YamlLoader), note)
    else:
        json.loads(body, object_pairs_hook=note)
    return tuple(found)


def _note_yaml(node: Any, note: Any) -> None:
    if isinstance(node, yaml.MappingNode):
        note([(key.value, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)])
        for _, value in node.value:
            _note_yaml(value, note)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _note_yaml(item, note)


class _YamlLoader(yaml.SafeLoader):
    """YAML as JSON has it: timestamps stay texts, as for Kubernetes' own reader."""


_YamlLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
