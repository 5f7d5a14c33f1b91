"""HTTP answers: documents, errors as `Status`, warnings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.responses import Response

from pilotfish.api.errors import ApiError


def json_response(body: Any, code: int = 200, *, warnings: Iterable[str] = (), media_type: str = "") -> Response:
    """An answer with a JSON body, given as a document or as bytes."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    response = Response(content, code, media_type=media_type or "application/json")
    for warning in dict.fromkeys(warnings):
        response.headers.append("Warning", warning_header(warning))
    return response


def status_response(error: ApiError) -> Response:
    """An error as a `Status` document."""
    return json_response(error.status(), error.code)


def warning_header(text: str) -> str:
    """RFC 7234's form of a warning, as kubectl prints it; what a header cannot hold is escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ").replace("\n", " ")
    return f'299 - "{escaped.encode("latin-1", "backslashreplace").decode("latin-1")}"'
