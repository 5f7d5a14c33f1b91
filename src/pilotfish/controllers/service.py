"""Service → EndpointSlices, and the older Endpoints object beside them."""

from __future__ import annotations

import msgspec

from pilotfish.api.core import Endpoints, EndpointSubset, Service
from pilotfish.api.discovery import MANAGED_BY_LABEL, SERVICE_NAME_LABEL, EndpointSlice
from pilotfish.api.kinds import ENDPOINT_SLICE, ENDPOINTS, POD, SERVICE
from pilotfish.api.meta import Document
from pilotfish.api.pods import Pod
from pilotfish.api.selectors import matches_labels
from pilotfish.client.client import Client
from pilotfish.client.informer import Change, ObjectKey
from pilotfish.client.informers import Informers
from pilotfish.controllers.endpoints import (
    MANAGER,
    endpoint_groups,
    endpoints_subsets,
    has_endpoints,
    slice_writes,
)
from pilotfish.controllers.queue import WorkQueue
from pilotfish.controllers.view import View
from pilotfish.controllers.writes import Create, Delete, Patch, Write, apply

ENDPOINTS_MANAGER = "endpoint-controller"
_ENDPOINTS_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
_SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"


def _slice_groups(held: EndpointSlice) -> tuple[str, ...]:
    service = held.metadata.labels.get(SERVICE_NAME_LABEL)
    ours = held.metadata.labels.get(MANAGED_BY_LABEL) == MANAGER
    return (f"{held.namespace}/{service}",) if service and ours else ()


def mirror_write(
    service: Service, subsets: tuple[EndpointSubset, ...], held: Endpoints | None
) -> Write[Endpoints] | None:
    """What brings the Endpoints object to the wanted subsets; None where nothing is to be done."""
    content = msgspec.to_builtins(subsets)
    if held is not None:
        return None if held.subsets == subsets else Patch(held, {"subsets": content})
    labels = {**service.metadata.labels, _ENDPOINTS_MANAGED_BY: ENDPOINTS_MANAGER, _SKIP_MIRROR: "true"}
    document: Document = {
        "apiVersion": ENDPOINTS.api_version,
        "kind": ENDPOINTS.kind,
        "metadata": {"name": service.name, "namespace": service.namespace, "labels": labels},
        "subsets": content,
    }
    return Create(document)


class ServiceController:
    """Keeps the endpoints of Services in step with their pods, as soon as a pod changes."""

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self.queue: WorkQueue[ObjectKey] = WorkQueue("service")
        services, pods = informers.informer(SERVICE), informers.informer(POD)
        slices, endpoints = informers.informer(ENDPOINT_SLICE), informers.informer(ENDPOINTS)
        self._services, self._pods = View(services), View(pods)
        self._slices = View(slices, _slice_groups)
        self._endpoints = View(endpoints)
        services.subscribe(lambda change: self.queue.add(change.key))
        pods.subscribe(self._pod_changed)
        slices.subscribe(self._slice_changed)
        endpoints.subscribe(lambda change: self.queue.add(change.key))

    def _pod_changed(self, change: Change[Pod]) -> None:
        if change.old is not None and change.new is not None and _serve_alike(change.old, change.new):
            return
        for service in self._services.group(change.key[0]):
            selector = service.spec.selector
            if any(p and matches_labels(selector, p.metadata.labels) for p in (change.old, change.new)):
                self.queue.add(service.key)

    def _slice_changed(self, change: Change[EndpointSlice]) -> None:
        service = change.object.metadata.labels.get(SERVICE_NAME_LABEL)
        if service:
            self.queue.add((change.key[0], service))

    async def reconcile(self, key: ObjectKey) -> float | None:
        service, mirror = self._services.get(key), self._endpoints.get(key)
        if service is None or service.metadata.deletion_timestamp is not None or not has_endpoints(service):
            await self._remove(service, mirror)
            return None
        chosen = [p for p in self._pods.group(key[0]) if matches_labels(service.spec.selector, p.metadata.labels)]
        wanted = endpoint_groups(service, chosen)
        slices = [s for s in self._slices.group("/".join(key)) if not s.metadata.deletion_timestamp]
        for write in slice_writes(service, wanted, sorted(slices, key=lambda s: s.name)):
            await apply(self._client, ENDPOINT_SLICE, key[0], write, self._slices)
        mirrored = mirror_write(service, endpoints_subsets(wanted), mirror)
        if mirrored is not None:
            await apply(self._client, ENDPOINTS, key[0], mirrored, self._endpoints)
        return None

    async def _remove(self, service: Service | None, mirror: Endpoints | None) -> None:
        """Slices go with their owner; the Endpoints object has none. One that the user wrote is left alone."""
        if mirror is not None and mirror.metadata.labels.get(_ENDPOINTS_MANAGED_BY) == ENDPOINTS_MANAGER:
            await apply(self._client, ENDPOINTS, mirror.namespace, Delete(mirror), self._endpoints)
        if service is not None:
            for held in self._slices.group(f"{service.namespace}/{service.name}"):
                await apply(self._client, ENDPOINT_SLICE, held.namespace, Delete(held), self._slices)


def _serve_alike(old: Pod, new: Pod) -> bool:
    """Whether nothing changed that endpoints are made of; most changes of a pod are of that sort."""

    def traits(pod: Pod) -> tuple[object, ...]:
        about, status = pod.metadata, pod.status
        places = (pod.spec.node_name, pod.spec.hostname, pod.spec.subdomain)
        states = (pod.ready, status.phase, status.pod_ip, status.pod_ips, about.deletion_timestamp is None)
        return about.labels, places, states

    return traits(old) == traits(new)
