"""Field errors in Kubernetes' words (apimachinery pkg/util/validation/field)."""

from __future__ import annotations

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
    listed = ", ".join(f'"{choice}"' for choice in sorted(supported))
    return FieldError(
        path=path,
        message=f"Unsupported value: {_shown(value)}: supported values: {listed}",
        reason="FieldValueNotSupported",
    )


def missing(path: str, value: Any) -> FieldError:
    """A reference to something that does not exist."""
    return FieldError(path=path, message=f"Not found: {_shown(value)}", reason="FieldValueNotFound")


def too_long(path: str, most: int, unit: str = "bytes") -> FieldError:
    return FieldError(path=path, message=f"Too long: may not be more than {most} {unit}", reason="FieldValueTooLong")


def wrong_type(path: str, wanted: str) -> FieldError:
    return FieldError(path=path, message=f"Invalid value: expected {wanted}", reason="FieldValueTypeInvalid")
