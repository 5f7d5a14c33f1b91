"""The parts of an HTTP request for objects: query, body, who asks."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import Any

import msgspec
from starlette.requests import Request

from pilotfish.api.errors import ApiError, BadRequest, Invalid, UnsupportedMediaType
from pilotfish.api.faults import required
from pilotfish.api.scheme import AnyKind
from pilotfish.apiserver.content import duplicate_fields, media_type, parse_body
from pilotfish.apiserver.deletion import DeleteOptions
from pilotfish.apiserver.fields import FieldValidation
from pilotfish.apiserver.listtypes import Shape
from pilotfish.apiserver.patch import (
    JSON_PATCH,
    MERGE_PATCH,
    PATCH_TYPES,
    STRATEGIC_MERGE_PATCH,
    json_patch,
    merge_patch,
)
from pilotfish.apiserver.resources import Change, WriteOptions
from pilotfish.apiserver.strategic import strategic_merge_patch

_LONGEST_BODY = 3 * 1024 * 1024
_VALIDATIONS: dict[str, FieldValidation] = {"": "Warn", "Ignore": "Ignore", "Warn": "Warn", "Strict": "Strict"}


def query(request: Request, name: str) -> str:
    return request.query_params.get(name, "")


def flag(request: Request, name: str) -> bool:
    return query(request, name).lower() in ("1", "true")


def number(request: Request, name: str) -> int:
    """A whole number of the query, 0 where it is absent. Raises BadRequest."""
    text = query(request, name)
    try:
        return int(text or 0)
    except ValueError as error:
        raise BadRequest(f'{name} is "{text}": it takes a whole number') from error


async def raw_body(request: Request) -> bytes:
    """Raises ApiError (413) when the body is too long."""
    body = await request.body()
    if len(body) > _LONGEST_BODY:
        message = f"the body has {len(body)} bytes, at most {_LONGEST_BODY} are taken"
        raise ApiError(message, code=413, reason="RequestEntityTooLarge")
    return body


def write_options(request: Request) -> WriteOptions:
    """The options of a write. Raises BadRequest for values that Kubernetes does not know."""
    dry_run, validation = query(request, "dryRun"), query(request, "fieldValidation")
    if dry_run not in ("", "All"):
        raise BadRequest(f'dryRun is "{dry_run}": it takes All')
    if validation not in _VALIDATIONS:
        raise BadRequest(f'fieldValidation is "{validation}": it takes Ignore, Warn or Strict')
    agent = request.headers.get("user-agent", "").partition("/")[0]
    return WriteOptions(
        user=request.state.user,
        dry_run=bool(dry_run),
        field_validation=_VALIDATIONS[validation],
        field_manager=query(request, "fieldManager") or agent or "unknown",
        force=flag(request, "force"),
    )


async def sent_document(request: Request) -> tuple[Any, WriteOptions]:
    """The document in the body, and the options of the write."""
    raw, content_type = await raw_body(request), request.headers.get("content-type", "")
    document, options = parse_body(raw, content_type), write_options(request)
    if options.field_validation != "Ignore":
        options = replace(options, duplicates=duplicate_fields(raw, content_type))
    return document, options


async def sent_configuration(request: Request) -> tuple[Any, WriteOptions]:
    """What a server-side apply wants. Raises Invalid when the query does not say who applies."""
    if not query(request, "fieldManager"):
        raise Invalid.of("PatchOptions", "meta.k8s.io", "", [required("fieldManager", "is required for apply patch")])
    return await sent_document(request)


async def sent_patch(request: Request, kind: AnyKind) -> tuple[Change, WriteOptions]:
    """What the patch in the body does to an object (except for server-side apply, which needs more than the object)."""
    raw, options = await raw_body(request), write_options(request)
    patch_type = patch_type_of(request)
    patch = parse_body(raw, patch_type)
    if patch_type == JSON_PATCH:
        return lambda document: json_patch(document, patch), options
    if patch_type == MERGE_PATCH:
        return lambda document: merge_patch(document, patch), options
    if patch_type == STRATEGIC_MERGE_PATCH:
        return lambda document: strategic_merge_patch(document, patch, Shape(type=kind.type)), options
    raise UnsupportedMediaType(f"{patch_type} is not taken here - accepted media types include: {_LISTED}")


_LISTED = ", ".join(PATCH_TYPES)


def patch_type_of(request: Request) -> str:
    """The media type of a patch. Raises UnsupportedMediaType when it is none of ours."""
    patch_type, _ = media_type(request.headers.get("content-type", ""))
    if patch_type not in PATCH_TYPES:
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format ({patch_type or 'none is given'}) - "
            f"accepted media types include: {_LISTED}"
        )
    return patch_type


async def delete_options(request: Request) -> tuple[DeleteOptions, WriteOptions]:
    """From the body where there is one; older clients say the same in the query. Raises BadRequest."""
    raw = await raw_body(request)
    sent = parse_body(raw, request.headers.get("content-type", "")) if raw else {}
    asked: dict[str, Any] = {"propagationPolicy": query(request, "propagationPolicy") or None}
    if query(request, "gracePeriodSeconds"):
        asked["gracePeriodSeconds"] = number(request, "gracePeriodSeconds")
    try:
        delete = msgspec.convert({**asked, **sent} if isinstance(sent, dict) else sent, DeleteOptions)
    except msgspec.ValidationError as error:
        raise BadRequest(f"these are no DeleteOptions: {error}") from error
    options = write_options(request)
    return delete, replace(options, dry_run=True) if delete.dry_run else options


class ContinueToken(msgspec.Struct, frozen=True):
    """Where the next page of a list begins.

    The list's revision stays that of its first page, so that a watch from it tells all that changed between the pages.
    """

    revision: int
    namespace: str
    name: str

    def encode(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()

    @staticmethod
    def decode(text: str) -> ContinueToken | None:
        """The token of a text, None of an empty one. Raises BadRequest."""
        if not text:
            return None
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(text), type=ContinueToken)
        except (binascii.Error, ValueError, msgspec.DecodeError) as error:
            raise BadRequest(f"continue key is not valid: {error}") from error
