"""istiod's debug pages, below the address at which any Kubernetes lets its Service be asked:

`kubectl get --raw /api/v1/namespaces/istio-system/services/istiod:15014/proxy/debug/syncz`
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilotfish.api.errors import BadRequest, Forbidden, NotFound
from pilotfish.api.kinds import SCHEME
from pilotfish.apiserver.responses import json_response
from pilotfish.mesh.model import Model
from pilotfish.xds import debug
from pilotfish.xds.blame import Blame
from pilotfish.xds.distribution import Named, distribution
from pilotfish.xds.feed import KINDS, Feed, Known
from pilotfish.xds.node import OPERATORS
from pilotfish.xds.server import AdsServer

PORT = 15014
"""istiod's port for monitoring and debugging."""
SERVICE = "/api/v1/namespaces/istio-system/services/istiod:15014/proxy"
"""Where the Kubernetes API lets that port of the Service be asked."""
_PATH = "/api/v1/namespaces/istio-system/services/{service}/proxy/debug/{page}"
_SERVICES = frozenset(f"{scheme}istiod:{port}" for scheme in ("", "http:") for port in (str(PORT), "http-monitoring"))

_DUMP = "config_dump"

Page = Callable[[QueryParams], Any]


def debug_routes(ads: AdsServer, model: Model, feed: Feed, blame: Blame) -> list[Route]:
    """The pages, for `apiserver.server.build_app`. Administrators and nodes may see them."""
    pages: dict[str, Page] = {
        "syncz": lambda query: debug.sync_status(
            p for p in ads.proxies() if query.get("namespace", p.node.namespace) == p.node.namespace
        ),
        "registryz": lambda query: debug.registry(model.hosts()),
        "endpointz": lambda query: debug.endpoints(model.hosts()),
        "endpointShardz": lambda query: debug.endpoints(model.hosts()),
        "config_distribution": lambda query: distribution(
            [(named, _known(feed, named)) for named in map(_named, query.getlist("resource"))],
            ads.progress(),
            blame.refusals,
        ),
        "list": lambda query: sorted([*pages, _DUMP]),
    }

    async def show(request: Request) -> Response:
        service, page = request.path_params["service"], request.path_params["page"]
        if service not in _SERVICES or page not in (*pages, _DUMP):
            known = ", ".join(f"debug/{name}" for name in sorted([*pages, _DUMP]))
            raise NotFound(f"there is no {service}/debug/{page}: istiod:{PORT} has {known}")
        user = request.state.user
        if OPERATORS.isdisjoint(user.groups):
            raise Forbidden(f"{user.name} is no administrator and cannot see how proxies are configured")
        if page != _DUMP:
            return json_response(pages[page](request.query_params))
        contents = _contents(ads, request.query_params.get("proxyID", ""))
        # Writing out thousands of messages takes seconds, in which changes are to go out all the same.
        return json_response(await asyncio.to_thread(debug.config_dump, contents))

    return [Route(_PATH, show, methods=["GET"])]


def _named(text: str) -> Named:
    """The object of `?resource=virtualservices/shop/web`. Raises BadRequest."""
    word, _, rest = text.partition("/")
    namespace, _, name = rest.partition("/")
    kind = SCHEME.search(word)
    if kind is None or not name:
        raise BadRequest(f"resource={text}: say which object, such as ?resource=virtualservices/NAMESPACE/NAME")
    return kind, namespace, name


def _known(feed: Feed, named: Named) -> Known:
    """Raises BadRequest for an object that no proxy's configuration is made of."""
    try:
        return feed.known(*named)
    except KeyError:
        kinds = ", ".join(sorted(kind.plural for kind in KINDS))
        raise BadRequest(f"no proxy hears of {named[0].plural}; of these they do: {kinds}") from None


def _contents(ads: AdsServer, proxy: str) -> debug.Contents:
    """Raises BadRequest, NotFound."""
    if not proxy:
        raise BadRequest("say whose configuration: ?proxyID=POD.NAMESPACE")
    for connection in ads.connections():
        if debug.full_name(connection.state.node) == proxy:
            return debug.resources_of(connection)
    raise NotFound(f"proxy {proxy} is not connected to the control plane")
