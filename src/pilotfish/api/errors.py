"""The errors of the Kubernetes API: each is a `Status` with a reason and an HTTP code (meta/v1 StatusReason)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pilotfish.api.meta import Struct


class FieldError(Struct):
    """One fault in one field. `path` is dotted with list positions, e.g. "spec.ports[0].protocol"."""

    path: str
    message: str
    reason: str = "FieldValueInvalid"

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ApiError(Exception):
    """An answer other than success, from our own API server or another's."""

    code = 500
    reason = "InternalError"

    def __init__(
        self,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        code: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or {}
        self.code = code if code is not None else type(self).code
        self.reason = reason if reason is not None else type(self).reason

    def status(self) -> dict[str, Any]:
        """The `Status` document that goes on the wire."""
        document: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            document["details"] = self.details
        return document

    def caused_by(self, reason: str) -> bool:
        """Whether the details name this cause (apimachinery: HasStatusCause)."""
        return any(cause.get("reason") == reason for cause in self.details.get("causes", ()))

    @staticmethod
    def from_status(status: dict[str, Any], code: int) -> ApiError:
        """The error that a `Status` document stands for, of the class that fits its reason."""
        reason = status.get("reason") or ""
        cls = next((c for c in ApiError.__subclasses__() if c.reason == reason), ApiError)
        return cls(
            status.get("message") or f"the server answered {code}",
            details=status.get("details"),
            code=status.get("code") or code,
            reason=reason or None,
        )


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    code, reason = 406, "NotAcceptable"


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    code, reason = 409, "Conflict"


class Expired(ApiError):
    """The resource version asked for is older than what the watch history holds: list again."""

    code, reason = 410, "Expired"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    """The object is well-formed and its content is not acceptable; `errors` name the fields."""

    code, reason = 422, "Invalid"

    @classmethod
    def of(cls, kind: str, group: str, name: str, errors: Sequence[FieldError]) -> Invalid:
        """The error that Kubernetes makes of field errors: its message lists them all."""
        listed = str(errors[0]) if len(errors) == 1 else "[" + ", ".join(map(str, errors)) + "]"
        qualified = f"{kind}.{group}" if group else kind
        causes = [{"reason": e.reason, "message": e.message, "field": e.path} for e in errors]
        details = {"name": name, "group": group, "kind": kind, "causes": causes}
        return cls(f'{qualified} "{name}" is invalid: {listed}', details=details)


class TooManyRequests(ApiError):
    code, reason = 429, "TooManyRequests"


class ServiceUnavailable(ApiError):
    code, reason = 503, "ServiceUnavailable"
