from __future__ import annotations

import asyncio
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pilotfish.api.kinds import SCHEME
from pilotfish.apiserver.admission import User
from pilotfish.apiserver.resources import Resources
from pilotfish.apiserver.server import build_app
from pilotfish.store.memory import MemoryStore


async def broken(request: Request) -> Response:
    raise RuntimeError("the disk is on fire")


async def own(request: Request) -> Response:
    return PlainTextResponse(f"{request.state.user.name} reads {request.path_params['name']}")


def answer_of(path: str) -> httpx.Response:
    """What an authenticated user gets from a server with two routes of its own."""
    pods = "/api/v1/namespaces/{namespace}/pods/{name}"

    async def ask() -> httpx.Response:
        routes = [Route(f"{pods}/log", own), Route(f"{pods}/exec", broken)]
        app = build_app(Resources(MemoryStore(), SCHEME), routes=routes)

        async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": {"user": User("admin")}}, receive, send)

        transport: Any = httpx.ASGITransport(app=authenticated, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_routes_of_the_composition_come_first_and_know_the_user() -> None:
    assert answer_of("/api/v1/namespaces/default/pods/p/log").text == "admin reads p"


def test_an_unexpected_error_is_a_status_too() -> None:
    answer = answer_of("/api/v1/namespaces/default/pods/p/exec")
    assert (answer.status_code, answer.json()["reason"]) == (500, "InternalError")
    assert "the disk is on fire" in answer.json()["message"]
