"""From the bytes of the Kubernetes API to typed objects and errors."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, TypeVar

import msgspec

from pilotfish.api.decode import decode_bytes
from pilotfish.api.errors import ApiError, Expired, Invalid, ServiceUnavailable
from pilotfish.api.meta import Document, Object, Struct
from pilotfish.api.scheme import Kind
from pilotfish.client.client import Listing, WatchEvent

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)


class _Metadata(Struct):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Envelope(Struct):
    metadata: _Metadata = _Metadata()


class _List(Struct):
    metadata: _Metadata = _Metadata()
    # Go writes an empty list as null in some answers.
    items: tuple[msgspec.Raw, ...] | None = None


class _Frame(Struct):
    type: str
    object: msgspec.Raw


_envelope = msgspec.json.Decoder(_Envelope)
_list = msgspec.json.Decoder(_List)
_frame = msgspec.json.Decoder(_Frame)
_reasons = {cls.code: cls.reason for cls in ApiError.__subclasses__() if cls.code != 409}


def read_object(kind: Kind[T], body: bytes) -> T:
    """The object of an answer. Raises Invalid when it is none of this kind."""
    try:
        return _complete(kind, decode_bytes(kind, body))
    except msgspec.MsgspecError as error:
        raise Invalid(f"the server's answer is not a {kind.kind}: {error}") from error


def read_list(kind: Kind[T], body: bytes) -> Listing[T]:
    """The objects of a list. Those that cannot be read are left out and logged, so that one does not hide the rest."""
    try:
        listing = _list.decode(body)
    except msgspec.MsgspecError as error:
        raise Invalid(f"the server's answer is not a list of {kind.plural}: {error}") from error
    items = (_readable(kind, raw) for raw in listing.items or ())
    return Listing(tuple(item for item in items if item is not None), listing.metadata.resource_version)


def read_event(kind: Kind[T], line: bytes) -> WatchEvent[T] | None:
    """One line of a watch; None when its object cannot be read, which is logged.

    Raises the error that an ERROR event carries (Expired for code 410), ServiceUnavailable for a line cut short.
    """
    try:
        frame = _frame.decode(line)
        if frame.type == "ERROR":
            raise read_error(bytes(frame.object), 500)
        version = _envelope.decode(frame.object).metadata.resource_version
    except msgspec.MsgspecError as error:
        raise ServiceUnavailable(f"the watch of {kind.plural} broke off: {error}") from error
    if frame.type == "BOOKMARK":
        return WatchEvent("BOOKMARK", None, version)
    if frame.type not in ("ADDED", "MODIFIED", "DELETED"):
        log.warning("watch of %s: unknown event type %r", kind.plural, frame.type)
        return None
    obj = _readable(kind, frame.object)
    # The literal is what the line above has checked.
    return WatchEvent(frame.type, obj, version) if obj is not None else None  # type: ignore[arg-type]


def read_error(body: bytes, code: int) -> ApiError:
    """The error of an answer: from its Status, or from its code where a proxy answered with something else."""
    try:
        status: Any = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        text = body.decode(errors="replace").strip()[:500]
        status = {"message": f"the server answered {code}: {text}" if text else "", "reason": _reasons.get(code, "")}
    error = ApiError.from_status(status, code)
    # Kubernetes says 410 with reason Expired or Gone; both mean to list again.
    return Expired(error.message, details=error.details) if error.code == Expired.code else error


_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')


def read_warnings(headers: Iterable[str]) -> list[str]:
    """The texts of `Warning` headers (RFC 7234); what is not of their form is left out."""
    return [re.sub(r'\\(["\\])', r"\1", text) for header in headers for text in _WARNING.findall(header)]


def write_object(kind: Kind[T], obj: T | Document) -> bytes:
    """The body of a create or update, with `apiVersion` and `kind` filled in."""
    document: Document = dict(obj) if isinstance(obj, dict) else msgspec.to_builtins(obj)
    document.setdefault("apiVersion", kind.api_version)
    document.setdefault("kind", kind.kind)
    return msgspec.json.encode(document)


async def split_lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The lines of a byte stream, without their newlines; a last line may lack its newline."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def _readable(kind: Kind[T], raw: msgspec.Raw) -> T | None:
    try:
        return _complete(kind, decode_bytes(kind, bytes(raw)))
    except msgspec.MsgspecError as error:
        where = _envelope.decode(raw).metadata
        log.error("%s %s/%s cannot be read and is left out: %s", kind.kind, where.namespace, where.name, error)
        return None


def _complete(kind: Kind[T], obj: T) -> T:
    """Items of lists come without `apiVersion` and `kind`."""
    return obj if obj.kind else msgspec.structs.replace(obj, api_version=kind.api_version, kind=kind.kind)
