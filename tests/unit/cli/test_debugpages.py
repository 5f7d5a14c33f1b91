from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from pilotfish.api.core import Service
from pilotfish.api.decode import decode
from pilotfish.api.errors import ApiError
from pilotfish.api.kinds import SCHEME, SERVICE
from pilotfish.apiserver.admission import User
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.apiserver.responses import status_response
from pilotfish.cli.debugpages import SERVICE as ISTIOD
from pilotfish.cli.debugpages import debug_routes
from pilotfish.client.informers import Informers
from pilotfish.mesh.model import Model
from pilotfish.store.memory import MemoryStore
from pilotfish.xds.blame import Blame
from pilotfish.xds.feed import Feed
from pilotfish.xds.generator import Generator
from pilotfish.xds.server import AdsServer

ADMINISTRATOR = User("kubernetes-admin", ("system:masters",))


def asked_by(user: User) -> Callable[[str], httpx.Response]:
    model = Model()
    web: Service = decode(
        SERVICE,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIP": "10.0.0.9", "ports": [{"name": "http", "port": 80}]},
        },
    )
    generator = Generator(model)
    generator.apply([(None, web)])
    ads = AdsServer(generator, None)

    async def refuse(request: Any, error: Exception) -> Any:
        assert isinstance(error, ApiError)
        return status_response(error)

    informers = Informers(LocalClient(Resources(MemoryStore(), SCHEME)))
    routes = debug_routes(ads, model, Feed(informers, generator), Blame(model, lambda key, words: None))
    app = Starlette(routes=routes, exception_handlers={ApiError: refuse})
    client = TestClient(_As(user, app))
    return lambda path: client.get(path)


class _As:
    """Requests of one user."""

    def __init__(self, user: User, app: ASGIApp) -> None:
        self._user, self._app = user, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["user"] = self._user
        await self._app(scope, receive, send)


def test_the_registry_and_its_endpoints() -> None:
    get = asked_by(ADMINISTRATOR)
    [service] = get(f"{ISTIOD}/debug/registryz").json()
    assert (service["hostname"], service["addresses"]) == ("web.shop.svc.cluster.local", ["10.0.0.9"])
    assert service["ports"] == [{"name": "http", "port": 80, "protocol": "HTTP"}]
    [port] = get(f"{ISTIOD.replace('istiod:15014', 'http:istiod:http-monitoring')}/debug/endpointz").json()
    assert (port["svc"], port["ep"]) == ("web.shop.svc.cluster.local:http", [])
    assert get(f"{ISTIOD}/debug/syncz").json() == []
    assert "config_dump" in get(f"{ISTIOD}/debug/list").json()


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        (f"{ISTIOD}/debug/nothing", 404, "debug/syncz"),
        (f"{ISTIOD.replace('15014', '80')}/debug/syncz", 404, "istiod:15014 has"),
        (f"{ISTIOD}/debug/config_dump", 400, "proxyID=POD.NAMESPACE"),
        (f"{ISTIOD}/debug/config_distribution?resource=web", 400, "resource=virtualservices/NAMESPACE/NAME"),
        (f"{ISTIOD}/debug/config_distribution?resource=jobs/shop/web", 400, "say which object"),
        (f"{ISTIOD}/debug/config_distribution?resource=configmaps/shop/web", 400, "no proxy hears of configmaps"),
        (f"{ISTIOD}/debug/config_dump?proxyID=a.b", 404, "proxy a.b is not connected"),
    ],
)
def test_what_there_is_not(path: str, code: int, reason: str) -> None:
    answer = asked_by(ADMINISTRATOR)(path)
    assert (answer.status_code, reason in answer.json()["message"]) == (code, True)


def test_only_administrators_and_nodes_may_look() -> None:
    assert asked_by(User("system:node:n", ("system:nodes",)))(f"{ISTIOD}/debug/syncz").status_code == 200
    answer = asked_by(User("somebody", ("system:authenticated",)))(f"{ISTIOD}/debug/syncz")
    assert (answer.status_code, answer.json()["reason"]) == (403, "Forbidden")
