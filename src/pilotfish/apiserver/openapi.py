"""OpenAPI v3 documents, made from the kinds' types: kubectl reads them for `explain` and to learn that the server
validates fields itself.

Strategic merge patches are deliberately not declared as content of PATCH: kubectl would then compute them from these
schemas, and falls back on the merge keys that it has built in for Kubernetes' own types otherwise.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from typing import Any

import msgspec
from msgspec import inspect as shapes

from pilotfish.api.meta import Document, Struct
from pilotfish.api.scheme import AnyKind, Scheme
from pilotfish.apiserver.discovery import group_versions
from pilotfish.apiserver.patch import APPLY_PATCH, JSON_PATCH, MERGE_PATCH

_GVK = "x-kubernetes-group-version-kind"
_WRITE_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")
_PLAIN: dict[type, Document] = {
    shapes.StrType: {"type": "string"},
    shapes.BoolType: {"type": "boolean"},
    shapes.IntType: {"type": "integer", "format": "int64"},
    shapes.FloatType: {"type": "number", "format": "double"},
}


def index(scheme: Scheme) -> Document:
    """The answer of /openapi/v3: where the document of each group and version is."""
    paths = {}
    for group, version in group_versions(scheme):
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        digest = hashlib.sha256(document(scheme, group, version) or b"").hexdigest()[:32].upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


@functools.cache
def document(scheme: Scheme, group: str, version: str) -> bytes | None:
    """The document of one group and version as JSON; None when it is not served."""
    kinds = group_versions(scheme).get((group, version))
    if not kinds:
        return None
    schemas: Document = {}
    paths: Document = {}
    for kind in kinds:
        name = _add_schema(kind.type, schemas)
        # Each version has the same type, so that the identity goes into a schema of its own name.
        described = {**schemas[name], _GVK: [_identity(kind, version)]}
        schemas[name] = described
        paths |= _paths(kind, version, name)
    return msgspec.json.encode(
        {
            "openapi": "3.0.0",
            "info": {"title": "Pilotfish", "version": "v1"},
            "paths": paths,
            "components": {"schemas": schemas},
        }
    )


def _identity(kind: AnyKind, version: str) -> Document:
    return {"group": kind.group, "version": version, "kind": kind.kind}


def _ours(cls: Any) -> type[Struct]:
    assert isinstance(cls, type) and issubclass(cls, Struct)
    return cls


def _schema_name(cls: type[Struct]) -> str:
    module = cls.__module__.rpartition(".")[2]
    return f"dev.pilotfish.api.{module}.{cls.__name__}"


def _add_schema(cls: type[Struct], schemas: Document) -> str:
    """Put the schema of a type, and of all that it refers to, among the schemas; gives its name."""
    name = _schema_name(cls)
    if name in schemas:
        return name
    schemas[name] = {}
    info = shapes.type_info(cls)
    assert isinstance(info, shapes.StructType)
    properties = {field.encode_name: _property(field, schemas) for field in info.fields}
    schema: Document = {"type": "object", "description": _description(cls), "properties": properties}
    if wanted := [field.encode_name for field in info.fields if field.required]:
        schema["required"] = wanted
    schemas[name] = schema
    return name


def _property(field: shapes.Field, schemas: Document) -> Document:
    schema = _of(field.type, schemas)
    default = field.default
    if "$ref" in schema:
        # A reference stands alone in OpenAPI 3.0; what belongs to the field goes around it.
        return {"allOf": [schema], "default": {}}
    if isinstance(default, str | bool | int) and default not in ("", 0):
        return {**schema, "default": default}
    return schema


def _of(shape: Any, schemas: Document) -> Document:
    match shape:
        case shapes.Metadata():  # what else is known of a type: what its values are, in words
            return {**_of(shape.type, schemas), **(shape.extra_json_schema or {})}
        case shapes.StructType():
            return {"$ref": f"#/components/schemas/{_add_schema(_ours(shape.cls), schemas)}"}
        case shapes.ListType() | shapes.VarTupleType():
            return {"type": "array", "items": _wrapped(_of(shape.item_type, schemas))}
        case shapes.DictType():
            return {"type": "object", "additionalProperties": _wrapped(_of(shape.value_type, schemas))}
        case shapes.LiteralType():
            return {"type": "string", "enum": list(shape.values)}
        case shapes.UnionType():
            members = [member for member in shape.types if not isinstance(member, shapes.NoneType)]
            if len(members) == 1:
                return _of(members[0], schemas)
            if {type(member) for member in members} == {shapes.StrType, shapes.IntType}:
                return {"type": "string", "format": "int-or-string", "x-kubernetes-int-or-string": True}
            return {"x-kubernetes-preserve-unknown-fields": True}
    return dict(_PLAIN.get(type(shape)) or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})


def _wrapped(schema: Document) -> Document:
    return {"allOf": [schema], "default": {}} if "$ref" in schema else schema


def _description(cls: type[Struct]) -> str:
    """A type's own docstring as one paragraph; its name in words where it has none."""
    text = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    if not text:
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", cls.__name__)
    return " ".join(text.replace("`", "").split())


def _paths(kind: AnyKind, version: str, schema: str) -> Document:
    root = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
    place = f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
    identity = _identity(kind, version)

    def operation(action: str, *, writes: bool = False, patch: bool = False) -> Document:
        described: Document = {
            "tags": [f"{kind.group or 'core'}_{version}"],
            "operationId": f"{action}{kind.group.title().replace('.', '')}{version.title()}{kind.kind}",
            "x-kubernetes-action": action,
            _GVK: identity,
            "responses": {
                "200": {
                    "description": "OK",
                    "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
                }
            },
        }
        if writes:
            described["parameters"] = [
                {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
                for name in (*_WRITE_PARAMETERS, *(("force",) if patch else ()))
            ]
            content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
            types = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH) if patch else ("application/json", "application/yaml")
            described["requestBody"] = {"content": dict.fromkeys(types, content), "required": True}
        return described

    paths: Document = {
        place: {"get": operation("list"), "post": operation("post", writes=True), "delete": operation("delete")},
        f"{place}/{{name}}": {
            "get": operation("get"),
            "put": operation("put", writes=True),
            "patch": operation("patch", writes=True, patch=True),
            "delete": operation("delete"),
        },
    }
    if kind.namespaced:
        paths[f"{root}/{kind.plural}"] = {"get": operation("list")}
    return paths
