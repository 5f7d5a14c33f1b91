"""The container `istio-proxy` as Istio's injection template makes it (files/injection-template.yaml of its chart), and
what it has in common with that of a gateway.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pilotfish.api.capture_ports import INBOUND, META, OUTBOUND
from pilotfish.api.errors import FieldError, Invalid
from pilotfish.api.meta import Document
from pilotfish.api.proxyconfig import ProxyConfig, proxy_config_document
from pilotfish.mesh import metrics_merge
from pilotfish.mesh.meshconfig import MeshConfig
from pilotfish.mesh.otel_attributes import VARIABLE as OTEL_ATTRIBUTES
from pilotfish.mesh.otel_attributes import resource_attributes
from pilotfish.mesh.values import ProxyValues, Values
from pilotfish.mesh.workload import Workload

CONTAINER = "istio-proxy"
PROXY_UID = 1337
READY_PORT = 15021
METRICS_PORT = 15090


@dataclass(frozen=True)
class Injected:
    """All that a proxy's container is made from. `own` is what the user wrote of it, `apps` the pod's other containers;
    `proxy` is this pod's own configuration, `scraped` what the proxy is told of the application's metrics.
    """

    apps: Sequence[Document]
    own: Sequence[Document]
    annotations: Mapping[str, str]
    labels: Mapping[str, str]
    proxy: ProxyConfig
    workload: Workload
    scraped: str
    mesh: MeshConfig
    values: Values


def holds_application(proxy: ProxyConfig, values: Values) -> bool:
    """Whether the application's containers start only when the proxy is ready."""
    return proxy.hold_application_until_proxy_starts or values.globals.proxy.hold_application_until_proxy_starts


def refused(path: str, message: str) -> Invalid:
    """The error of a pod that cannot be injected because of what it says at `path`."""
    return Invalid.of("Pod", "", "", [FieldError(path=path, message=message)])


def sidecar_container(pod: Injected) -> Document:
    """The container as istiod's template makes it. Raises Invalid, naming an annotation that cannot be read."""
    annotations, values = pod.annotations, pod.values
    container: Document = {
        "name": CONTAINER,
        "image": image(annotations, pod.proxy, values),
        "ports": [{"containerPort": METRICS_PORT, "protocol": "TCP", "name": "http-envoy-prom"}],
        "args": list(arguments("sidecar", annotations, values)),
        "env": list(environment(pod, pod.apps)),
        "securityContext": {
            "allowPrivilegeEscalation": values.globals.proxy.privileged,
            "capabilities": {"drop": ["ALL"]},
            "privileged": values.globals.proxy.privileged,
            "readOnlyRootFilesystem": True,
            "runAsGroup": PROXY_UID,
            "runAsNonRoot": True,
            "runAsUser": PROXY_UID,
        },
        "resources": _resources(annotations, values.globals.proxy),
    }
    if values.globals.proxy.lifecycle:
        container["lifecycle"] = values.globals.proxy.lifecycle
    elif holds_application(pod.proxy, values):
        container["lifecycle"] = {"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}}
    if values.globals.image_pull_policy:
        container["imagePullPolicy"] = values.globals.image_pull_policy
    container.update(probes(annotations, values.globals.proxy))
    return container


def image(annotations: Mapping[str, str], proxy: ProxyConfig, values: Values) -> str:
    """The image that the installation or the pod chooses for proxies."""
    named = annotations.get("sidecar.istio.io/proxyImage", values.globals.proxy.image)
    if "/" in named:
        return named
    tag = str(values.globals.tag)
    of_config = proxy.image.image_type if proxy.image else ""
    kind = annotations.get("sidecar.istio.io/proxyImageType") or of_config or values.globals.variant
    if kind:
        tag = tag.removesuffix("-distroless").removesuffix("-debug")
        tag = tag if kind == "default" else f"{tag}-{kind}"
    return f"{values.globals.hub}/{values.globals.proxy.image}:{tag}"


def arguments(role: str, annotations: Mapping[str, str], values: Values) -> Iterator[str]:
    """What the proxy is started with, in the role of a "sidecar" or "router"."""
    proxy = values.globals.proxy
    yield from ("proxy", role, "--domain", f"$(POD_NAMESPACE).svc.{proxy.cluster_domain}")
    yield f"--proxyLogLevel={annotations.get('sidecar.istio.io/logLevel', proxy.log_level)}"
    components = annotations.get("sidecar.istio.io/componentLogLevel", proxy.component_log_level)
    yield f"--proxyComponentLogLevel={components}"
    yield f"--log_output_level={annotations.get('sidecar.istio.io/agentLogLevel', values.globals.logging.level)}"
    if values.globals.log_as_json:
        yield "--log_as_json"


def environment(pod: Injected, serving: Sequence[Document]) -> Iterator[Document]:
    """The proxy's environment; `serving` are the containers whose ports it is told of."""
    values, of_all = pod.values, pod.values.globals
    suffix = f"-{values.revision}" if values.revision else ""
    yield _text("PILOT_CERT_PROVIDER", of_all.pilot_cert_provider)
    yield _text("CA_ADDR", of_all.ca_address or f"istiod{suffix}.{of_all.istio_namespace}.svc:15012")
    yield _field("POD_NAME", "metadata.name")
    yield _field("POD_NAMESPACE", "metadata.namespace")
    yield _field("INSTANCE_IP", "status.podIP")
    yield _field("SERVICE_ACCOUNT", "spec.serviceAccountName")
    yield _field("HOST_IP", "status.hostIP")
    yield _limit("ISTIO_CPU_LIMIT", "limits.cpu")
    yield _text("PROXY_CONFIG", json.dumps(proxy_config_document(pod.proxy), separators=(",", ":")) + "\n")
    yield _text("ISTIO_META_POD_PORTS", _pod_ports(serving))
    yield _text("ISTIO_META_APP_CONTAINERS", ",".join(c["name"] for c in pod.apps))
    yield _limit("GOMEMLIMIT", "limits.memory")
    yield _text("ISTIO_META_CLUSTER_ID", of_all.multi_cluster.cluster_name or "Kubernetes")
    yield _field("ISTIO_META_NODE_NAME", "spec.nodeName")
    mode = pod.annotations.get("sidecar.istio.io/interceptionMode", pod.proxy.interception_mode)
    yield _text("ISTIO_META_INTERCEPTION_MODE", mode)
    yield _text(META + OUTBOUND, str(pod.mesh.proxy_listen_port))
    yield _text(META + INBOUND, str(pod.mesh.proxy_inbound_listen_port))
    network = pod.labels.get("topology.istio.io/network", of_all.network)
    if network:
        yield _text("ISTIO_META_NETWORK", network)
    name = pod.labels.get("service.istio.io/workload-name", pod.workload.name)
    if name:
        yield _text("ISTIO_META_WORKLOAD_NAME", name)
    if pod.workload.name:
        yield _text("ISTIO_META_OWNER", pod.workload.url)
    yield _text("ISTIO_META_MESH_ID", of_all.mesh_id or pod.mesh.trust_domain)
    yield _text("TRUST_DOMAIN", pod.mesh.trust_domain)
    attributes = resource_attributes(pod.mesh, pod.annotations, pod.labels, pod.apps, pod.workload)
    if attributes and OTEL_ATTRIBUTES not in pod.proxy.proxy_metadata:
        yield _text(OTEL_ATTRIBUTES, attributes)
    for key, value in sorted(pod.proxy.proxy_metadata.items()):
        yield _text(key, value)
    if pod.scraped:
        yield _text(metrics_merge.VARIABLE, pod.scraped)


def _text(name: str, value: str) -> Document:
    return {"name": name, "value": value}


def _field(name: str, path: str) -> Document:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _limit(name: str, resource: str) -> Document:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": "1"}}}


def _pod_ports(containers: Sequence[Document]) -> str:
    ports = [json.dumps(port, separators=(",", ":")) for c in containers for port in c.get("ports") or []]
    return "[\n" + "\n".join(f"    {',' if i else ''}{port}" for i, port in enumerate(ports)) + "\n]"


def _resources(annotations: Mapping[str, str], proxy: ProxyValues) -> Document:
    asked = {
        "requests": {"cpu": "sidecar.istio.io/proxyCPU", "memory": "sidecar.istio.io/proxyMemory"},
        "limits": {"cpu": "sidecar.istio.io/proxyCPULimit", "memory": "sidecar.istio.io/proxyMemoryLimit"},
    }
    own = {
        kind: {resource: annotations[name] for resource, name in names.items() if name in annotations}
        for kind, names in asked.items()
    }
    if not any(own.values()):
        own = {"requests": proxy.resources.requests, "limits": proxy.resources.limits}
    return {kind: dict(amounts) for kind, amounts in own.items() if amounts}


def probes(annotations: Mapping[str, str], proxy: ProxyValues) -> Document:
    """The fields that say how the proxy is found to be ready. Raises Invalid, naming a faulty annotation."""
    if annotations.get("status.sidecar.istio.io/port", str(proxy.status_port)) == "0":
        return {}
    check = {"path": "/healthz/ready", "port": READY_PORT}
    prefix = "readiness.status.sidecar.istio.io/"
    found: Document = {
        "readinessProbe": {
            "httpGet": check,
            "initialDelaySeconds": _number(
                annotations, prefix + "initialDelaySeconds", proxy.readiness_initial_delay_seconds
            ),
            "periodSeconds": _number(annotations, prefix + "periodSeconds", proxy.readiness_period_seconds),
            "timeoutSeconds": 3,
            "failureThreshold": _number(annotations, prefix + "failureThreshold", proxy.readiness_failure_threshold),
        }
    }
    if proxy.startup_probe.enabled:
        found["startupProbe"] = {
            "httpGet": dict(check),
            "initialDelaySeconds": 0,
            "periodSeconds": 1,
            "timeoutSeconds": 3,
            "failureThreshold": proxy.startup_probe.failure_threshold,
        }
    return found


def _number(annotations: Mapping[str, str], name: str, default: int) -> int:
    text = annotations.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise refused(f"metadata.annotations[{name}]", f'"{text}" is not a whole number of at least 0')
    return int(text)
