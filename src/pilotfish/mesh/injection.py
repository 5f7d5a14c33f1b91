"""The proxy's container, added to a pod when it is created (Istio: pkg/kube/inject and its injection templates).

A pod gets a sidecar, or with `inject.istio.io/templates: gateway` the container that makes it a gateway.

A pure function of the pod, its namespace's labels, the mesh configuration and the installation's values. There is no
init container: the node applies the capture rules. There are no volumes: the node gives the proxy its certificates.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pilotfish.api import networking
from pilotfish.api.gateways import GATEWAY_TEMPLATE, INJECT_TEMPLATES, SIDECAR_TEMPLATE
from pilotfish.api.meta import Document, LabelSelector, metadata_of
from pilotfish.api.proxyconfig import ProxyConfig
from pilotfish.api.selectors import matches
from pilotfish.mesh import metrics_merge
from pilotfish.mesh.meshconfig import MeshConfig
from pilotfish.mesh.proxy_configs import effective
from pilotfish.mesh.router import router_container
from pilotfish.mesh.sidecar import CONTAINER, Injected, holds_application, refused, sidecar_container
from pilotfish.mesh.values import Values
from pilotfish.mesh.workload import Workload, workload_of

INJECT = "sidecar.istio.io/inject"
STATUS = "sidecar.istio.io/status"
OVERRIDES = "proxy.istio.io/overrides"
PROXY_CONFIG = "proxy.istio.io/config"
REVISION = "istio.io/rev"
NAMESPACE_LABEL = "istio-injection"
_CONTAINERS = {SIDECAR_TEMPLATE: sidecar_container, GATEWAY_TEMPLATE: router_container}
IGNORED_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})


def inject(
    pod: Document,
    namespace_labels: Mapping[str, str],
    mesh: MeshConfig,
    values: Values,
    configs: Sequence[networking.ProxyConfig] = (),
) -> Document:
    """The pod with its proxy; the very same document where it gets none. `configs` are those of the pod's namespace and
    of the root namespace.

    Raises Invalid where an annotation that shapes the proxy cannot be read, naming the annotation.
    """
    if not wanted(pod, namespace_labels, values):
        return pod
    scraped_before = _scraped(pod)
    pod = _without_injected(copy.deepcopy(pod))
    metadata = pod.setdefault("metadata", {})
    annotations: dict[str, str] = metadata.get("annotations") or {}
    labels: dict[str, str] = metadata.get("labels") or {}
    template = _template(annotations)
    path = f"metadata.annotations[{PROXY_CONFIG}]"
    proxy = effective(
        mesh, configs, metadata.get("namespace") or "default", labels, annotated_proxy_config(annotations, path), path
    )
    workload = workload_of(metadata)
    own = [c for c in pod["spec"].get("containers") or [] if c.get("name") == CONTAINER]
    apps = [c for c in pod["spec"].get("containers") or [] if c.get("name") != CONTAINER]
    merged = _merged(annotations, mesh, proxy)
    scraped = merged.variable or scraped_before
    container = _CONTAINERS[template](Injected(apps, own, annotations, labels, proxy, workload, scraped, mesh, values))
    added = {STATUS: _status(values)}
    if own:
        added[OVERRIDES] = json.dumps({"containers": own}, separators=(",", ":"))
        container = _overlaid(container, {k: v for k, v in own[0].items() if (k, v) != ("image", "auto")})
    if holds_application(proxy, values):
        pod["spec"]["containers"] = [container, *apps]
    else:
        pod["spec"]["containers"] = [*apps, container]
    metadata["labels"] = {**labels, **_labels(labels, workload, template)}
    metadata["annotations"] = {
        **merged.annotations,
        **values.sidecar_injector_webhook.injected_annotations,
        **_annotations(apps, annotations, values),
        **added,
    }
    return pod


def wanted(pod: Document, namespace_labels: Mapping[str, str], values: Values) -> bool:
    """Whether the pod gets a proxy (Istio: the webhook's selectors, then injectRequired)."""
    metadata = metadata_of(pod)
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if metadata.get("namespace") in IGNORED_NAMESPACES or (pod.get("spec") or {}).get("hostNetwork"):
        return False
    if not _selected(namespace_labels, labels, values):
        return False
    # The label is the newer interface and wins over the annotation of the same name.
    word = labels.get(INJECT, annotations.get(INJECT, ""))
    if word in ("true", "false"):
        return bool(word == "true")
    webhook = values.sidecar_injector_webhook
    if _any_matches(webhook.never_inject_selector, labels):
        return False
    if _any_matches(webhook.always_inject_selector, labels):
        return True
    return values.globals.proxy.auto_inject == "enabled"


def _selected(namespace: Mapping[str, str], labels: Mapping[str, str], values: Values) -> bool:
    """Whether the injector is asked at all: by the namespace's labels, or the pod's own where it has none."""
    if labels.get(INJECT) == "false":
        return False
    revision = values.revision_name
    if NAMESPACE_LABEL in namespace:
        return namespace[NAMESPACE_LABEL] == "enabled" and not values.revision
    if REVISION in namespace:
        return namespace[REVISION] == revision
    if REVISION in labels:
        return labels[REVISION] == revision
    if values.revision:
        return False
    by_default = values.sidecar_injector_webhook.enable_namespaces_by_default
    return labels.get(INJECT) == "true" or (by_default and INJECT not in labels)


def _any_matches(selectors: tuple[LabelSelector, ...], labels: Mapping[str, str]) -> bool:
    return any((s.match_labels or s.match_expressions) and matches(s, labels) for s in selectors)


def _without_injected(pod: Document) -> Document:
    """A pod that was injected before, as it was written: its sidecar is made anew, from its own overrides."""
    annotations = metadata_of(pod).get("annotations") or {}
    if STATUS in annotations:
        overrides = json.loads(annotations.get(OVERRIDES, "{}")).get("containers", [])
        apps = [c for c in pod["spec"].get("containers") or [] if c.get("name") != CONTAINER]
        pod["spec"]["containers"] = [*apps, *overrides]
    return pod


def _scraped(pod: Document) -> str:
    """What the proxy of a pod that was injected before was told of the application's metrics."""
    for container in pod["spec"].get("containers") or []:
        if container.get("name") == CONTAINER:
            told = {variable.get("name"): variable.get("value") for variable in container.get("env") or []}
            return told.get(metrics_merge.VARIABLE) or ""
    return ""


def _merged(annotations: Mapping[str, str], mesh: MeshConfig, proxy: ProxyConfig) -> metrics_merge.Merge:
    try:
        return metrics_merge.merge(annotations, mesh, proxy.status_port)
    except ValueError as error:
        raise refused("metadata.annotations", f"prometheus.io: {error}") from None


def annotated_proxy_config(annotations: Mapping[str, str], path: str) -> Document:
    """What the pod itself says of its proxy. Raises Invalid, naming `path`, where that cannot be read."""
    text = annotations.get(PROXY_CONFIG)
    if not text:
        return {}
    try:
        overlay = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise refused(path, f"this is no YAML: {error}") from None
    if not isinstance(overlay, dict):
        raise refused(path, "expected a mapping of ProxyConfig's fields")
    return overlay


def _template(annotations: Mapping[str, str]) -> str:
    """The template that the pod asks for."""
    asked = annotations.get(INJECT_TEMPLATES, SIDECAR_TEMPLATE).strip()
    if asked not in _CONTAINERS:
        known = ", ".join(sorted(_CONTAINERS))
        raise refused(f"metadata.annotations[{INJECT_TEMPLATES}]", f'"{asked}" is not one of the templates {known}')
    return asked


def _status(values: Values) -> str:
    """Istio's SidecarInjectionStatus: what was injected, so that it can be told from what the user wrote."""
    injected: dict[str, Any] = {
        "initContainers": None,
        "containers": [CONTAINER],
        "volumes": None,
        "imagePullSecrets": None,
        "revision": values.revision_name,
    }
    return json.dumps(injected, separators=(",", ":"))


def _labels(labels: Mapping[str, str], workload: Workload, template: str) -> dict[str, str]:
    canonical = (
        labels.get("service.istio.io/canonical-name")
        or labels.get("app.kubernetes.io/name")
        or labels.get("app")
        or workload.name
    )
    revision = (
        labels.get("service.istio.io/canonical-revision")
        or labels.get("app.kubernetes.io/version")
        or labels.get("version")
        or "latest"
    )
    added = {
        "service.istio.io/canonical-name": canonical[:63].strip("-_."),
        "service.istio.io/canonical-revision": revision,
    }
    if template == SIDECAR_TEMPLATE:  # how a gateway's ports speak its Gateways say
        added["security.istio.io/tlsMode"] = labels.get("security.istio.io/tlsMode", "istio")
    return added


def _annotations(apps: list[Document], annotations: Mapping[str, str], values: Values) -> dict[str, str]:
    added = {REVISION: values.revision_name}
    if apps:
        for name in ("kubectl.kubernetes.io/default-logs-container", "kubectl.kubernetes.io/default-container"):
            added[name] = annotations.get(name, apps[0]["name"])
    return added


# Lists of a container that Kubernetes merges item by item, and the field that tells items apart.
_MERGED_BY = {"env": "name", "ports": "containerPort", "volumeMounts": "mountPath"}


def _overlaid(base: Document, overlay: Document) -> Document:
    """The template's container with the user's own `istio-proxy` laid over it, as a strategic merge patch does."""
    merged = dict(base)
    for name, value in overlay.items():
        if name in _MERGED_BY and isinstance(value, list):
            key = _MERGED_BY[name]
            items = {item.get(key): item for item in base.get(name, [])}
            items.update((item.get(key), {**items.get(item.get(key), {}), **item}) for item in value)
            merged[name] = list(items.values())
        elif isinstance(value, dict) and isinstance(base.get(name), dict):
            merged[name] = _overlaid(base[name], value)
        else:
            merged[name] = value
    return merged
