"""Field errors in Kubernetes' words (apimachinery pkg/util/validation/field)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import msgspec

from pilotfish.api.errors import FieldError


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def invalid(path: str, value: Any, why: str) -> FieldError:
    return FieldError(path=path, message=f"Invalid value: {_shown(value)}: {why}")


def required(path: str, why: str = "") -> FieldError:
    return FieldError(path=path, message="Required value" + (f": {why}" if why else ""), reason="FieldValueRequired")


def forbidden(path: str, why: str) -> FieldError:
    return FieldError(path=path, message=f"Forbidden: {why}", reason="FieldValueForbidden")


def duplicate(path: str, value: Any) -> FieldError:
    return FieldError(path=path, message=f"Duplicate value: {_shown(value)}", reason="FieldValueDuplicate")


def unsupported(path: str, value: Any, supported: Iterable[str]) -> FieldError:
    """A value that is none of the supported ones; one that is nearly the value is suggested."""
    choices = sorted(supported)
    listed = ", ".join(f'"{choice}"' for choice in choices)
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(str(value).lower(), by_lower, n=1)
    hint = f'; did you mean "{by_lower[near[0]]}"?' if near else ""
    return FieldError(
        path=path,
        message=f"Unsupported value: {_shown(value)}: supported values: {listed}{hint}",
        reason="FieldValueNotSupported",
    )


def missing(path: str, value: Any) -> FieldError:
    """A reference to something that does not exist."""
    return FieldError(path=path, message=f"Not found: {_shown(value)}", reason="FieldValueNotFound")


def too_long(path: str, most: int, unit: str = "bytes") -> FieldError:
    return FieldError(path=path, message=f"Too long: may not be more than {most} {unit}", reason="FieldValueTooLong")


def wrong_type(path: str, wanted: str) -> FieldError:
    return FieldError(path=path, message=f"Invalid value: expected {wanted}", reason="FieldValueTypeInvalid")
