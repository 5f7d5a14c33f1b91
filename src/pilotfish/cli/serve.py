"""`pilotfish serve`: the control plane put together, in one process and one event loop.

The API server over the store, the controllers and the mesh as its clients, and xDS with the certificate service.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
from functools import lru_cache

from pilotfish.api.decode import decode
from pilotfish.api.kinds import CONFIG_MAP, NAMESPACE, POD, PROXY_CONFIG, SCHEME
from pilotfish.api.meta import Document
from pilotfish.api.pods import Pod
from pilotfish.apiserver.admission import AdmissionRequest, Reader
from pilotfish.apiserver.allocation import service_allocation
from pilotfish.apiserver.bootstrap import ensure_default_objects
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.apiserver.server import build_app
from pilotfish.apiserver.server import serve as serve_api
from pilotfish.apiserver.streams.nodes import Nodes
from pilotfish.apiserver.streams.routes import stream_routes
from pilotfish.cli.debugpages import debug_routes
from pilotfish.cli.process import terminated
from pilotfish.client.informer import Informer
from pilotfish.client.informers import Informers
from pilotfish.controllers import runtime as controllers
from pilotfish.controllers.acceptance import UNAPPLIED, UNSERVED, Acceptance
from pilotfish.home import Home
from pilotfish.mesh import meshconfig, values
from pilotfish.mesh.injection import NAMESPACE_LABEL, inject
from pilotfish.mesh.model import Model
from pilotfish.pki.authority import Authority
from pilotfish.pki.files import Files
from pilotfish.pki.identity import Identity
from pilotfish.serving import Listener, listen
from pilotfish.store.sqlite import SQLiteStore
from pilotfish.xds import questions
from pilotfish.xds.blame import Blame
from pilotfish.xds.certificates import RunsOn, certificate_service
from pilotfish.xds.csds import status_service
from pilotfish.xds.feed import Feed
from pilotfish.xds.generator import Generator
from pilotfish.xds.load_reports import load_report_service
from pilotfish.xds.server import AdsServer, mutual_tls, serving
from pilotfish.xds.settings import ALLOCATED_RANGES, ProxySettings
from pilotfish.xds.trust import MeshTrustDomains

INJECTED_NAMESPACES = {"default": {NAMESPACE_LABEL: "enabled"}}
"""Labels that namespaces get when they are first made: `up` gives pods in `default` a sidecar."""


async def serve(home: Home) -> None:
    """Run the control plane of a home until SIGTERM. Raises OSError when a port cannot be had."""
    settings, files = home.settings(), Files(home.pki)
    store = SQLiteStore(home.database)
    resources = Resources(store, SCHEME, admissions=(inject_sidecars, service_allocation(settings.service_cidr, store)))
    await ensure_default_objects(resources, labels=INJECTED_NAMESPACES)
    client = LocalClient(resources)
    informers, acceptance = Informers(client), Acceptance(client)
    unserved, unapplied = Acceptance(client, UNSERVED), Acceptance(client, UNAPPLIED)
    model = Model(settings.cluster_domain)
    installed = ProxySettings(
        cluster_domain=settings.cluster_domain,
        mesh_ranges=(settings.service_cidr, *ALLOCATED_RANGES),
    )
    generator = Generator(model, installed)
    generator.gateways.on_unserved = unserved.report
    feed = Feed(informers, generator)
    blame = Blame(model, acceptance.report, unapplied.report)
    trusted = MeshTrustDomains(settings.trust_domain, lambda: generator.settings.mutual_tls)
    ads = AdsServer(generator, trusted, blame, questions.response)
    authority = Authority.at(files, name=settings.trust_domain)
    issuer = certificate_service(authority, trusted, bound_to(informers.informer(POD)))
    reports = load_report_service(trusted, generator.report_interval, generator.used)
    nodes = Nodes(files.ca, files.api_server_client.certificate, files.api_server_client.key)
    app = build_app(resources, routes=[*stream_routes(resources, nodes), *debug_routes(ads, model, feed, blame)])
    credentials = mutual_tls(files.xds_server.load(), authority.pem)
    api = Listener(listen("127.0.0.1", settings.api_port), files.api_server.certificate, files.api_server.key, files.ca)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(informers.run(), name="informers"),
                group.create_task(feed.run(), name="feed"),
                group.create_task(
                    controllers.run(
                        client,
                        root_certificate=authority.pem.decode(),
                        service_network=ipaddress.ip_network(settings.service_cidr),
                        informers=informers,
                    ),
                    name="controllers",
                ),
                group.create_task(acceptance.run(), name="acceptance"),
                group.create_task(unserved.run(), name="unserved"),
                group.create_task(unapplied.run(), name="unapplied"),
                group.create_task(serve_api(app, api), name="api"),
            ]
            await feed.synced()
            collect_rarely()
            async with serving(
                (ads.service(), status_service(ads.connections), issuer, reports),
                f"0.0.0.0:{settings.xds_port}",
                credentials,
            ):
                await terminated()
            for task in tasks:
                task.cancel()
    finally:
        await store.close()


def collect_rarely() -> None:
    """Leave what is there now out of garbage collections, and have fewer of them.

    A mesh is some hundred thousand objects that live long: collecting as Python does by itself costs a fifth of the
    CPU of a change that goes to a thousand proxies (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def inject_sidecars(request: AdmissionRequest) -> Document:
    """Admission that gives new pods their sidecar, by the configuration that the API holds at that moment."""
    if request.kind is not POD or request.operation != "CREATE":
        return request.document
    namespace = request.get(NAMESPACE, "", request.namespace) or {}
    labels = namespace.get("metadata", {}).get("labels") or {}
    mesh = _mesh_config(request.get)
    places = dict.fromkeys((mesh.root_namespace, request.namespace))
    configs = [decode(PROXY_CONFIG, found) for place in places for found in request.list_all(PROXY_CONFIG, place)]
    return inject(request.document, labels, mesh, _values(request.get), configs)


def bound_to(pods: Informer[Pod]) -> RunsOn:
    """Whether a node runs a pod of an identity: who may ask for its certificate."""

    def runs_on(node: str, identity: Identity) -> bool:
        return any(
            pod.spec.node_name == node
            and pod.namespace == identity.namespace
            and (pod.spec.service_account_name or "default") == identity.service_account
            for pod in pods.objects.values()
        )

    return runs_on


def _mesh_config(get: Reader) -> meshconfig.MeshConfig:
    return _read_mesh_config(_entry(get, meshconfig.CONFIG_MAP, meshconfig.CONFIG_MAP_KEY))


def _values(get: Reader) -> values.Values:
    return _read_values(_entry(get, values.CONFIG_MAP, values.CONFIG_MAP_KEY) or "{}")


def _entry(get: Reader, name: str, key: str) -> str:
    config_map = get(CONFIG_MAP, meshconfig.ROOT_NAMESPACE, name) or {}
    return str((config_map.get("data") or {}).get(key, ""))


# Many pods are made with one configuration, and reading it takes longer than injecting.
_read_mesh_config = lru_cache(maxsize=4)(meshconfig.read_mesh_config)
_read_values = lru_cache(maxsize=4)(values.read_values)
