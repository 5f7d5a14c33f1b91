"""The Services that Istio's charts install: of its control plane and of its gateways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pilotfish.api.meta import Document

NAMESPACE = "istio-system"


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


def gateway_service(component: str, gateway: Document, settings: Document) -> Document:
    """A gateway's Service. `settings` are its values, `gateway` the entry among the components, which wins."""
    ingress = component == "ingressGateways"
    own = (gateway.get("k8s") or {}).get("service") or {}
    default = {"app": gateway["name"], "istio": "ingressgateway" if ingress else "egressgateway"}
    labels = {**default, **(settings.get("labels") or {}), **(gateway.get("label") or {})}
    spec: dict[str, Any] = {
        "type": settings.get("type") or ("LoadBalancer" if ingress else "ClusterIP"),
        "selector": labels,
        "ports": settings.get("ports") or [port.document() for port in (INGRESS_PORTS if ingress else EGRESS_PORTS)],
    }
    spec |= {k: settings[k] for k in ("loadBalancerIP", "externalTrafficPolicy") if settings.get(k)}
    annotations = {
        **(settings.get("serviceAnnotations") or {}),
        **((gateway.get("k8s") or {}).get("serviceAnnotations") or {}),
    }
    name = component[0].upper() + component[1:]
    about: Document = {"name": gateway["name"], "namespace": NAMESPACE, "labels": {**owned(name), **labels}}
    if annotations:
        about["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": {**spec, **own}}
