"""How a remote command ended, as the `Status` on its error channel says it (Kubernetes: remotecommand v4)."""

from __future__ import annotations

from typing import Any

import msgspec

SUCCESS = msgspec.json.encode({"metadata": {}, "status": "Success"})


def exited(code: int) -> bytes:
    """The Status of a command that ran; clients take the exit code from its causes."""
    if code == 0:
        return SUCCESS
    return _failure(
        "NonZeroExitCode",
        f"command terminated with non-zero exit code: exit status {code}",
        {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    )


def failed(message: str) -> bytes:
    """The Status of a command that did not come to run, or of a stream that cannot be had."""
    text = f"Internal error occurred: {message}"
    return _failure("InternalError", text, {"causes": [{"message": message}]}, code=500)


def _failure(reason: str, message: str, details: dict[str, Any], **more: int) -> bytes:
    about = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return msgspec.json.encode({**about, "reason": reason, "message": message, "details": details, **more})
