"""What Istio's charts install of its gateways, and the Service of its control plane.

A gateway is a Deployment whose pods injection completes (its template "gateway"), a Service and a ServiceAccount.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pilotfish.api.gateways import GATEWAY_TEMPLATE, INJECT_TEMPLATES
from pilotfish.api.meta import Document
from pilotfish.mesh.sidecar import CONTAINER, METRICS_PORT, PROXY_UID

NAMESPACE = "istio-system"
_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2000m", "memory": "1024Mi"}}


@dataclass(frozen=True)
class Port:
    name: str
    port: int
    target: int

    def document(self) -> Document:
        return {"name": self.name, "port": self.port, "targetPort": self.target, "protocol": "TCP"}


INGRESS_PORTS = (Port("status-port", 15021, 15021), Port("http2", 80, 8080), Port("https", 443, 8443))
DEMO_INGRESS_PORTS = (*INGRESS_PORTS, Port("tcp", 31400, 31400), Port("tls", 15443, 15443))
EGRESS_PORTS = (Port("http2", 80, 8080), Port("https", 443, 8443))
_ISTIOD_PORTS = (
    Port("grpc-xds", 15010, 15010),
    Port("https-dns", 15012, 15012),
    Port("https-webhook", 443, 15017),
    Port("http-monitoring", 15014, 15014),
)


def owned(component: str) -> dict[str, str]:
    """The labels by which an installation finds what it wrote."""
    return {
        "install.operator.istio.io/owning-resource": "installed-state",
        "operator.istio.io/component": component,
        "istio.io/rev": "default",
        "release": "istio",
    }


def istiod_service() -> Document:
    """The control plane, by the name under which proxies know it."""
    about = {
        "name": "istiod",
        "namespace": NAMESPACE,
        "labels": {**owned("Pilot"), "app": "istiod", "istio": "pilot"},
    }
    ports = [port.document() for port in _ISTIOD_PORTS]
    spec: Document = {"type": "ClusterIP", "selector": {"app": "istiod", "istio": "pilot"}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": spec}


@dataclass(frozen=True)
class Gateway:
    """A gateway to be installed: `component` is "ingressGateways" or "egressGateways", `settings` its values, and
    `entry` what stands among the components, which wins.
    """

    component: str
    entry: Document
    settings: Document

    @property
    def name(self) -> str:
        return str(self.entry["name"])

    @property
    def ingress(self) -> bool:
        return self.component == "ingressGateways"

    @property
    def kubernetes(self) -> Document:
        """The entry's `k8s`: settings of the objects, in Kubernetes' words."""
        held: Document = self.entry.get("k8s") or {}
        return held

    @property
    def service_account(self) -> str:
        return f"{self.name}-service-account"

    @property
    def labels(self) -> dict[str, str]:
        """The labels by which its pods are known."""
        usual = {"app": self.name, "istio": "ingressgateway" if self.ingress else "egressgateway"}
        return {**usual, **(self.settings.get("labels") or {}), **(self.entry.get("label") or {})}

    @property
    def ports(self) -> list[Document]:
        usual = INGRESS_PORTS if self.ingress else EGRESS_PORTS
        found: list[Document] = self.settings.get("ports") or [port.document() for port in usual]
        return found

    def about(self, name: str) -> Document:
        """The metadata of one of its objects."""
        component = self.component[0].upper() + self.component[1:]
        return {"name": name, "namespace": NAMESPACE, "labels": {**owned(component), **self.labels}}


def gateway_objects(gateway: Gateway) -> tuple[Document, ...]:
    """All that is installed of a gateway."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": gateway.about(gateway.service_account)}
    return account, _service(gateway), _deployment(gateway)


def _service(gateway: Gateway) -> Document:
    settings = gateway.settings
    spec: dict[str, Any] = {
        "type": settings.get("type") or ("LoadBalancer" if gateway.ingress else "ClusterIP"),
        "selector": gateway.labels,
        "ports": gateway.ports,
    }
    spec |= {k: settings[k] for k in ("loadBalancerIP", "externalTrafficPolicy") if settings.get(k)}
    about = gateway.about(gateway.name)
    annotations = {**(settings.get("serviceAnnotations") or {}), **(gateway.kubernetes.get("serviceAnnotations") or {})}
    if annotations:
        about["annotations"] = annotations
    spec |= gateway.kubernetes.get("service") or {}
    return {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": spec}


def _deployment(gateway: Gateway) -> Document:
    """Without a number of replicas unless one is asked for, so that installing again leaves a scaled one alone."""
    replicas = _chosen(gateway, "replicaCount") or gateway.settings.get("autoscaleMin")
    spec: Document = {
        **({"replicas": replicas} if replicas else {}),
        "selector": {"matchLabels": gateway.labels},
        "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "25%"}},
        "template": {"metadata": _pod_metadata(gateway), "spec": _pod_spec(gateway)},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": gateway.about(gateway.name), "spec": spec}


def _pod_metadata(gateway: Gateway) -> Document:
    labels = {
        **gateway.labels,
        "sidecar.istio.io/inject": "true",
        "service.istio.io/canonical-name": gateway.name,
        "service.istio.io/canonical-revision": "latest",
    }
    annotations = {
        INJECT_TEMPLATES: GATEWAY_TEMPLATE,
        "prometheus.io/port": "15020",
        "prometheus.io/scrape": "true",
        "prometheus.io/path": "/stats/prometheus",
        **(gateway.settings.get("podAnnotations") or {}),
        **(gateway.kubernetes.get("podAnnotations") or {}),
    }
    return {"labels": labels, "annotations": annotations}


def _pod_spec(gateway: Gateway) -> Document:
    volumes = [*_mounted(gateway, "secretVolumes", "secret", "secretName")]
    volumes += _mounted(gateway, "configVolumes", "configMap", "name")
    environment = [{"name": name, "value": str(value)} for name, value in (gateway.settings.get("env") or {}).items()]
    container: Document = {
        "name": CONTAINER,
        "image": "auto",
        "ports": [
            *({"containerPort": _target(port), "protocol": port.get("protocol", "TCP")} for port in gateway.ports),
            {"containerPort": METRICS_PORT, "protocol": "TCP", "name": "http-envoy-prom"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        "resources": _chosen(gateway, "resources") or _RESOURCES,
    }
    if environment := [*environment, *(gateway.kubernetes.get("env") or ())]:
        container["env"] = environment
    if volumes:
        container["volumeMounts"] = [mount for mount, _ in volumes]
    spec: Document = {
        "serviceAccountName": gateway.service_account,
        "securityContext": {"runAsUser": PROXY_UID, "runAsGroup": PROXY_UID, "runAsNonRoot": True},
        "containers": [container, *(gateway.settings.get("additionalContainers") or ())],
    }
    if volumes:
        spec["volumes"] = [volume for _, volume in volumes]
    return spec | {name: value for name in ("nodeSelector", "tolerations") if (value := _chosen(gateway, name))}


def _mounted(gateway: Gateway, values: str, kind: str, reference: str) -> Iterator[tuple[Document, Document]]:
    """The mounts and volumes of the values' list of Secrets or ConfigMaps, which need not exist."""
    for item in gateway.settings.get(values) or ():
        source = {reference: item.get("secretName") or item.get("configMapName"), "optional": True}
        mount = {"name": item["name"], "mountPath": item["mountPath"], "readOnly": True}
        yield mount, {"name": item["name"], kind: source}


def _chosen(gateway: Gateway, name: str) -> Any:
    """A setting that a gateway's entry and its values know by the same name."""
    return gateway.kubernetes.get(name) or gateway.settings.get(name)


def _target(port: Document) -> Any:
    return port.get("targetPort") or port["port"]
