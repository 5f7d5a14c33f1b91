"""Admission: functions that see a write after defaulting and before validation, and may change or refuse it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pilotfish.api.meta import Document
from pilotfish.api.scheme import AnyKind

Reader = Callable[[AnyKind, str, str], Document | None]
"""(kind, namespace, name) → the stored document, or None. For objects other than the one being written."""

Lister = Callable[[AnyKind, str], list[Document]]
"""(kind, namespace) → the stored documents of a namespace."""


@dataclass(frozen=True, slots=True)
class User:
    """Who asks: a client certificate's common name and organisations."""

    name: str
    groups: tuple[str, ...] = ()


SYSTEM = User("system:pilotfish", ("system:masters", "system:authenticated"))
"""The control plane itself, when it writes from within the API server's process."""


def _nobody_waits(release: Callable[[], None]) -> None:
    return None


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """One write of an object itself (not of its status). `old` is None for CREATE. `document` is not to be changed."""

    kind: AnyKind
    operation: Literal["CREATE", "UPDATE"]
    namespace: str
    name: str
    document: Document
    old: Document | None
    user: User
    get: Reader
    list_all: Lister
    on_settled: Callable[[Callable[[], None]], object] = _nobody_waits
    """Registers what is to be called when the write is stored, or has failed: for what was reserved for it."""


Admission = Callable[[AdmissionRequest], Document]
"""Returns the document to go on with, the request's own when it has nothing to say. Raises ApiError to refuse."""


def admit(admissions: Sequence[Admission], request: AdmissionRequest) -> Document:
    """What the admissions, one after the other, make of a request's document."""
    for admission in admissions:
        request = replace(request, document=admission(request))
    return request.document
