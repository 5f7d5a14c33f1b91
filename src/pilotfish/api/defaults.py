"""What Kubernetes fills in where a manifest is silent (kubernetes pkg/apis/{core,apps,discovery}/v1 defaults.go).

Each function completes a document in place. They run on every write, so each must leave a complete document as it is.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from pilotfish.api.meta import Document

_FILE_MODE = 0o644


def _mappings(parent: Any, field: str) -> Iterator[dict[str, Any]]:
    """The objects of a list field; nothing where the field is absent or something else (validation says so)."""
    items = parent.get(field) if isinstance(parent, dict) else None
    return (item for item in items if isinstance(item, dict)) if isinstance(items, list) else iter(())


def _mapping(parent: Document, field: str) -> dict[str, Any]:
    """A nested object, made where it is absent; a throw-away one where the field holds something else."""
    nested = parent.setdefault(field, {})
    return nested if isinstance(nested, dict) else {}


def _fill(target: dict[str, Any], **defaults: Any) -> None:
    for name, value in defaults.items():
        target.setdefault(name, value)


def _pull_policy(image: Any) -> str:
    """`Always` for the tag latest, given or implied; otherwise `IfNotPresent`."""
    text = str(image or "")
    if "@" in text:
        return "IfNotPresent"
    tag = text.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _http_get(handler: Any) -> None:
    if isinstance(handler, dict) and isinstance(get := handler.get("httpGet"), dict):
        _fill(get, path="/", scheme="HTTP")


def _probe(probe: dict[str, Any]) -> None:
    _fill(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    _http_get(probe)
    if isinstance(grpc := probe.get("grpc"), dict):
        _fill(grpc, service="")  # `kubectl describe` follows this pointer without a look


def _container(container: dict[str, Any]) -> None:
    _fill(
        container,
        imagePullPolicy=_pull_policy(container.get("image")),
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
    )
    for port in _mappings(container, "ports"):
        _fill(port, protocol="TCP")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if isinstance(probe := container.get(name), dict):
            _probe(probe)
    if isinstance(lifecycle := container.get("lifecycle"), dict):
        _http_get(lifecycle.get("postStart"))
        _http_get(lifecycle.get("preStop"))
    for variable in _mappings(container, "env"):
        source = variable.get("valueFrom")
        if isinstance(source, dict) and isinstance(ref := source.get("fieldRef"), dict):
            _fill(ref, apiVersion="v1")


def _volume(volume: dict[str, Any]) -> None:
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}
    for name in ("configMap", "secret", "downwardAPI", "projected"):
        if isinstance(source := volume.get(name), dict):
            _fill(source, defaultMode=_FILE_MODE)
    if isinstance(path := volume.get("hostPath"), dict):
        _fill(path, type="")
    for source in _mappings(volume.get("projected"), "sources"):
        if isinstance(token := source.get("serviceAccountToken"), dict):
            _fill(token, expirationSeconds=3600)


def pod_spec(spec: dict[str, Any]) -> None:
    """Complete a PodSpec, in a Pod or in a template."""
    _fill(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    for field in ("containers", "initContainers"):
        for container in _mappings(spec, field):
            _container(container)
    for volume in _mappings(spec, "volumes"):
        _volume(volume)
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def _qos_class(spec: dict[str, Any]) -> str:
    """Kubernetes' quality-of-service class from the containers' requests and limits."""
    resources = [c.get("resources") or {} for f in ("containers", "initContainers") for c in _mappings(spec, f)]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"

    def guaranteed(r: dict[str, Any]) -> bool:
        limits = r.get("limits") or {}
        return {"cpu", "memory"} <= limits.keys() and (r.get("requests") or limits) == limits

    return "Guaranteed" if all(map(guaranteed, resources)) else "Burstable"


def pod(document: Document) -> None:
    spec = _mapping(document, "spec")
    pod_spec(spec)
    _fill(spec, enableServiceLinks=True, serviceAccountName="default", serviceAccount="default")
    _fill(_mapping(document, "status"), phase="Pending", qosClass=_qos_class(spec))


def namespace(document: Document) -> None:
    """`kubectl get ns -l kubernetes.io/metadata.name=…` works, and the phase is never empty."""
    metadata = _mapping(document, "metadata")
    if name := metadata.get("name"):
        _mapping(metadata, "labels").setdefault("kubernetes.io/metadata.name", name)
    _fill(_mapping(document, "status"), phase="Active")


def service(document: Document) -> None:
    """All but addresses and node ports, which are allocated (`pilotfish.apiserver.allocation`)."""
    spec = _mapping(document, "spec")
    _fill(spec, type="ClusterIP", sessionAffinity="None")
    for port in _mappings(spec, "ports"):
        _fill(port, protocol="TCP")
        if "port" in port and not port.get("targetPort"):
            port["targetPort"] = port["port"]
    if spec["sessionAffinity"] == "ClientIP":
        _fill(_mapping(_mapping(spec, "sessionAffinityConfig"), "clientIP"), timeoutSeconds=10800)
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _fill(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _fill(spec, allocateLoadBalancerNodePorts=True)
    if spec["type"] != "ExternalName":
        _fill(spec, internalTrafficPolicy="Cluster")
    _mapping(_mapping(document, "status"), "loadBalancer")


def endpoints(document: Document) -> None:
    for subset in _mappings(document, "subsets"):
        for port in _mappings(subset, "ports"):
            _fill(port, protocol="TCP")


def endpoint_slice(document: Document) -> None:
    for port in _mappings(document, "ports"):
        _fill(port, name="", protocol="TCP")


def secret(document: Document) -> None:
    """`stringData` is write-only: it is folded into `data` in base64."""
    _fill(document, type="Opaque")
    plain = document.get("stringData")
    if isinstance(plain, dict) and all(isinstance(v, str) for v in plain.values()):
        del document["stringData"]
        _mapping(document, "data").update({k: base64.b64encode(v.encode()).decode() for k, v in plain.items()})


def _template(spec: dict[str, Any]) -> None:
    template = _mapping(spec, "template")
    pod_spec(_mapping(template, "spec"))


def deployment(document: Document) -> None:
    spec = _mapping(document, "spec")
    _fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = _mapping(spec, "strategy")
    _fill(strategy, type="RollingUpdate")
    if strategy.get("type") == "RollingUpdate":
        _fill(_mapping(strategy, "rollingUpdate"), maxUnavailable="25%", maxSurge="25%")
    _template(spec)


def replica_set(document: Document) -> None:
    spec = _mapping(document, "spec")
    _fill(spec, replicas=1)
    _template(spec)


def pod_grace_period(document: Document, asked: int | None) -> int:
    """Seconds that a deleted pod has to stop (kubernetes pod strategy CheckGracefulDelete).

    A pod that no node has taken, or that has ended, goes at once.
    """
    spec, status = _mapping(document, "spec"), _mapping(document, "status")
    if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
        return 0
    seconds = spec.get("terminationGracePeriodSeconds", 30) if asked is None else asked
    return seconds if isinstance(seconds, int) and seconds >= 0 else 1
