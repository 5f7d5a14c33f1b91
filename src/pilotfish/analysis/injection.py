"""Sidecar injection: namespaces that ask for it or do not say, pods without a proxy or with an old one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pilotfish.analysis import messages
from pilotfish.analysis.messages import Message, full_name
from pilotfish.analysis.snapshot import Snapshot
from pilotfish.api.kinds import DEPLOYMENT, NAMESPACE, POD
from pilotfish.api.meta import Document
from pilotfish.api.pods import PodSpec
from pilotfish.mesh.injection import IGNORED_NAMESPACES, INJECT, NAMESPACE_LABEL, REVISION, wanted
from pilotfish.mesh.values import Values

CONTAINER = "istio-proxy"
AUTO = "auto"
_DATAPLANE_MODE = "istio.io/dataplane-mode"
_CUSTOM_IMAGE = "sidecar.istio.io/proxyImage"
_VARIANTS = ("", "-debug", "-distroless")
_CONTROL_PLANE = "istio-system"


def injection(snapshot: Snapshot) -> Iterator[Message]:
    """Namespaces and pods that get no sidecar."""
    yield from namespaces(snapshot)
    yield from pods(snapshot)


def namespaces(snapshot: Snapshot) -> Iterator[Message]:
    """Namespaces that do not say whether they want sidecars, or say it in two ways."""
    by_default = snapshot.values is not None and snapshot.values.sidecar_injector_webhook.enable_namespaces_by_default
    for obj in snapshot.of(NAMESPACE):
        if obj.name == _CONTROL_PLANE or obj.name in IGNORED_NAMESPACES:
            continue
        labels = obj.metadata.labels
        asked = labels.get(NAMESPACE_LABEL, "")
        kinds = [NAMESPACE_LABEL, *((REVISION, _DATAPLANE_MODE) if asked in ("", "enabled") else ())]
        given = [f"{name}={labels[name]}" for name in kinds if name in labels]
        if len(given) > 1:
            yield messages.MULTIPLE_INJECTION_LABELS.about(obj, given)
        if labels.get(_DATAPLANE_MODE) == "ambient":
            continue
        if not asked and REVISION not in labels:
            if by_default:
                yield messages.INJECTION_BY_DEFAULT.about(obj)
            else:
                yield messages.NAMESPACE_NOT_INJECTED.about(obj, obj.name, obj.name, at=("metadata", "name"))


def pods(snapshot: Snapshot) -> Iterator[Message]:
    """Pods of namespaces with injection that have no proxy."""
    for obj in snapshot.of(POD):
        namespace = snapshot.find(NAMESPACE, "", obj.namespace)
        if namespace is None or namespace.metadata.labels.get(NAMESPACE_LABEL) != "enabled" or obj.spec.host_network:
            continue
        said = obj.metadata.labels.get(INJECT, obj.metadata.annotations.get(INJECT, ""))
        if said.lower() != "false" and not _images(obj.spec):
            yield messages.POD_MISSING_PROXY.about(obj, full_name(obj))


def images(snapshot: Snapshot) -> Iterator[Message]:
    """Namespaces with pods whose proxies are of another image than injection gives now."""
    if snapshot.values is None:
        return
    current = _current_images(snapshot.values)
    for namespace in snapshot.of(NAMESPACE):
        if namespace.metadata.labels.get(NAMESPACE_LABEL) != "enabled" and REVISION not in namespace.metadata.labels:
            continue
        old = [
            pod.name
            for pod in snapshot.of(POD)
            if pod.namespace == namespace.name
            and not pod.metadata.annotations.get(_CUSTOM_IMAGE)
            and any(image not in current for image in _images(pod.spec))
        ]
        if old:
            yield messages.PROXY_IMAGE_MISMATCH.about(namespace, sorted(old))


def auto_images(snapshot: Snapshot) -> Iterator[Message]:
    """`image: auto` where injection does not put an image in its place."""
    for obj in snapshot.of(POD):
        if AUTO in _images(obj.spec):
            yield messages.IMAGE_AUTO_ERROR.about(obj, "Pod", obj.name)
    for deployment in snapshot.of(DEPLOYMENT):
        template = deployment.spec.template
        if AUTO not in _images(template.spec):
            continue
        namespace = snapshot.find(NAMESPACE, "", deployment.namespace)
        labels = namespace.metadata.labels if namespace is not None else {}
        about = {"labels": template.metadata.labels, "annotations": template.metadata.annotations}
        spec = {"hostNetwork": template.spec.host_network}
        pod: Document = {"metadata": {**about, "namespace": deployment.namespace}, "spec": spec}
        if not wanted(pod, labels, snapshot.values or Values()):
            yield messages.IMAGE_AUTO_WARNING.about(deployment, "Deployment", deployment.name)


def in_mesh(
    snapshot: Snapshot, namespace: str, labels: Mapping[str, str], annotations: Mapping[str, str], spec: PodSpec
) -> bool:
    """Whether pods have a sidecar, or are going to get one (Istio: util.DeploymentInMesh)."""
    if _images(spec):
        return True
    for said in (labels.get(INJECT), annotations.get(INJECT)):
        if said is not None:
            return said == "true"
    found = snapshot.find(NAMESPACE, "", namespace)
    return found is not None and found.metadata.labels.get(NAMESPACE_LABEL) == "enabled"


def _images(spec: PodSpec) -> list[str]:
    """The images of a pod's proxy container; none where it has no such container."""
    return [one.image for one in (*spec.containers, *spec.init_containers) if one.name == CONTAINER and one.image]


def _current_images(values: Values) -> set[str]:
    given, image = values.globals, values.globals.proxy.image
    plain = image if "/" in image else f"{given.hub}/{image}:{given.tag}"
    return {f"{plain}{variant}" for variant in _VARIANTS}
