"""Who asks: the client certificate of the connection, and the answers to `kubectl auth`."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pilotfish.api.errors import Unauthorized
from pilotfish.api.meta import Document, timestamp
from pilotfish.apiserver.admission import User
from pilotfish.apiserver.responses import status_response

AUTHENTICATED = "system:authenticated"
OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version"})
"""What everyone may see, as in Kubernetes (system:public-info-viewer)."""


def user_of(certificate: Any) -> User | None:
    """The user that a verified certificate names: its common name, with its organisations as groups."""
    subject = [pair for entry in (certificate or {}).get("subject", ()) for pair in entry]
    name = next((value for key, value in subject if key == "commonName"), "")
    groups = tuple(value for key, value in subject if key == "organizationName")
    return User(name, (*groups, AUTHENTICATED)) if name else None


class CertificateProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which also notes the connection's user in the state of each request (`state["user"]`).

    WebSockets inherit it, because uvicorn hands them the same state.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        user = user_of(tls.getpeercert()) if tls else None
        self.app_state = {**self.app_state, "user": user}


class Authentication:
    """ASGI middleware: who has no certificate gets 401, except for what everyone may see."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = scope["type"] == "lifespan" or scope.get("state", {}).get("user") is not None
        if known or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "Unauthorized"})
        else:
            refusal: Response = status_response(
                Unauthorized("Unauthorized: this server knows its users by client certificates; use its kubeconfig")
            )
            await refusal(scope, receive, send)


def self_subject_review(user: User, api_version: str) -> Document:
    """The answer to `kubectl auth whoami` (authentication.k8s.io SelfSubjectReview)."""
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": api_version,
        "metadata": {"creationTimestamp": timestamp()},
        "status": {"userInfo": {"username": user.name, "groups": list(user.groups)}},
    }


def self_subject_access_review(asked: Any, api_version: str) -> Document:
    """The answer to `kubectl auth can-i`: whoever has a certificate may do everything."""
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": api_version,
        "metadata": {"creationTimestamp": None},
        "spec": asked.get("spec", {}) if isinstance(asked, dict) else {},
        "status": {"allowed": True, "reason": "every authenticated user of this mesh may do everything"},
    }
