"""What stands for a workload that joins from outside any pod, made from its WorkloadGroup. Pure.

Its *front* is a pod of this node with a proxy and nothing else. Its WorkloadEntry is what istiod would register on the
proxy's first connection (Istio: pilot/pkg/autoregistration); it belongs to the front, and the front to the group.
"""

from __future__ import annotations

import msgspec

from pilotfish.api.joined import (
    AUTO_REGISTRATION_GROUP,
    HEALTH_CHECKED,
    HEALTHY,
    HOST_PROCESS,
    JOINED_BY,
    WORKLOAD_ADDRESS,
    WORKLOAD_ENTRY,
)
from pilotfish.api.meta import Condition, Document, Object
from pilotfish.api.networking import WorkloadGroup
from pilotfish.api.pods import ExecAction, GRPCAction, HTTPGetAction, HTTPHeader, Pod, Probe, TCPSocketAction
from pilotfish.node.meshnetwork import HOST_LOOPBACK

PROXY = "istio-proxy"
INJECT = "sidecar.istio.io/inject"
LONGEST_NAME = 253
_CANONICAL_NAME, _CANONICAL_REVISION = "service.istio.io/canonical-name", "service.istio.io/canonical-revision"
_PERIOD_SECONDS = 10


def front(group: WorkloadGroup, holder: str, address: str | None) -> Document:
    """The pod to create. `holder` names the lock of the process that it is for; `address` is where the workload
    listens, None for one that runs inside.
    """
    env = {
        f"ISTIO_META_{WORKLOAD_ENTRY}": entry_name(group, "$(INSTANCE_IP)"),
        "ISTIO_META_AUTO_REGISTER_GROUP": group.name,
        "ISTIO_METAJSON_LABELS": msgspec.json.encode(labels(group)).decode(),
    }
    if group.spec.template.network:
        env["ISTIO_META_NETWORK"] = group.spec.template.network
    annotations = {JOINED_BY: holder}
    if address is not None:
        env[f"ISTIO_META_{WORKLOAD_ADDRESS}"] = address
    if address == HOST_LOOPBACK:
        annotations[HOST_PROCESS] = "true"
    return {
        "metadata": {
            "generateName": f"{group.name}-",
            # Not the workload's labels: what selects it selects its entry, which has them.
            "labels": {INJECT: "true"},
            "annotations": annotations,
            "ownerReferences": [_owned_by(group, "networking.istio.io/v1", "WorkloadGroup")],
        },
        "spec": {
            "serviceAccountName": account(group),
            "terminationGracePeriodSeconds": 5,
            "containers": [
                {
                    "name": PROXY,
                    "image": "auto",
                    "env": [{"name": name, "value": value} for name, value in env.items()],
                }
            ],
        },
    }


def account(group: WorkloadGroup) -> str:
    """The service account of a group's workloads, whose certificate their proxies have."""
    return group.spec.template.service_account or "default"


def entry(group: WorkloadGroup, pod: Pod) -> Document:
    """The WorkloadEntry of a group's workload whose front is this pod."""
    template = msgspec.to_builtins(group.spec.template)
    about = group.spec.metadata
    annotations = {AUTO_REGISTRATION_GROUP: group.name, **(about.annotations if about else {})}
    if group.spec.probe is not None:
        annotations[HEALTH_CHECKED] = "true"
    found = labels(group)
    return {
        "metadata": {
            "name": entry_name(group, pod.status.pod_ip),
            "labels": found,
            "annotations": annotations,
            "ownerReferences": [_owned_by(pod, "v1", "Pod")],
        },
        # Also where the group names none: whoever calls the workload knows by it whom to believe.
        "spec": {**template, "address": pod.status.pod_ip, "labels": found, "serviceAccount": account(group)},
    }


def entry_name(group: WorkloadGroup, ip: str) -> str:
    """<group>-<ip>[-<network>], less of its beginning where it is too long (Istio: autoregisteredWorkloadEntryName)."""
    network = group.spec.template.network
    return "-".join(filter(None, (group.name, ip.replace(":", "-"), network)))[-LONGEST_NAME:]


def labels(group: WorkloadGroup) -> dict[str, str]:
    """The labels of the group's workloads: of its metadata before those of its template."""
    found = {**group.spec.template.labels, **(group.spec.metadata.labels if group.spec.metadata else {})}
    name = found.get(_CANONICAL_NAME) or found.get("app.kubernetes.io/name") or found.get("app") or group.name
    revision = found.get(_CANONICAL_REVISION) or found.get("app.kubernetes.io/version") or found.get("version")
    return {**found, _CANONICAL_NAME: name, _CANONICAL_REVISION: revision or "latest"}


def probe(group: WorkloadGroup) -> Probe | None:
    """How the group's workloads are checked; None where it does not say. What is left out has Istio's defaults: one
    failure counts, and one success.
    """
    given = group.spec.probe
    if given is None:
        return None
    http = given.http_get
    return Probe(
        http_get=HTTPGetAction(
            port=http.port,
            path=http.path or "/",
            host=http.host,
            scheme=http.scheme or "HTTP",
            http_headers=tuple(HTTPHeader(name=h.name, value=h.value) for h in http.http_headers),
        )
        if http
        else None,
        tcp_socket=TCPSocketAction(port=given.tcp_socket.port, host=given.tcp_socket.host)
        if given.tcp_socket
        else None,
        exec=ExecAction(command=given.exec.command) if given.exec else None,
        grpc=GRPCAction(port=given.grpc.port, service=given.grpc.service) if given.grpc else None,
        initial_delay_seconds=given.initial_delay_seconds,
        timeout_seconds=given.timeout_seconds or 1,
        period_seconds=given.period_seconds or _PERIOD_SECONDS,
        success_threshold=given.success_threshold or 1,
        failure_threshold=given.failure_threshold or 1,
    )


def with_health(conditions: tuple[Condition, ...], healthy: bool, message: str, now: str) -> tuple[Condition, ...]:
    """An entry's conditions with what a check has found."""
    status = "True" if healthy else "False"
    before = next((c for c in conditions if c.type == HEALTHY), None)
    since = before.last_transition_time if before is not None and before.status == status else now
    fresh = Condition(
        type=HEALTHY,
        status=status,
        reason="" if healthy else "HealthCheckFailed",
        message=message,
        last_probe_time=now,
        last_transition_time=since,
    )
    return (*(c for c in conditions if c.type != HEALTHY), fresh)


def _owned_by(owner: Object, api_version: str, kind: str) -> Document:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": owner.name,
        "uid": owner.metadata.uid,
        "controller": True,
    }
