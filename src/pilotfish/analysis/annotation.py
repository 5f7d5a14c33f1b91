"""Istio's annotations: unknown ones, those on the wrong kind, deprecated ones, and values that cannot be used."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from pilotfish.analysis import messages
from pilotfish.analysis.annotationtable import ANNOTATIONS, ANY, DEPRECATED
from pilotfish.analysis.messages import Message
from pilotfish.analysis.snapshot import Snapshot
from pilotfish.api.errors import Invalid
from pilotfish.api.kinds import DEPLOYMENT, NAMESPACE, POD, SERVICE
from pilotfish.api.meta import Object
from pilotfish.api.proxyconfig import overlay_proxy_config
from pilotfish.api.scheme import AnyKind
from pilotfish.mesh.injection import INJECT, PROXY_CONFIG, annotated_proxy_config
from pilotfish.mesh.meshconfig import MeshConfig

INGRESS_CLASS = "kubernetes.io/ingress.class"
_WRITTEN_BY_OTHERS = frozenset({"sidecar.istio.io/status", "gateway.istio.io/controller-version", "istio.io/rev"})
"""Annotations that nobody writes by hand."""
_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[munkMGTPE]|[eE][+-]?\d+)?")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")


def misused(snapshot: Snapshot) -> Iterator[Message]:
    """All of it, for namespaces, services, pods and deployments."""
    kinds: tuple[AnyKind, ...] = (NAMESPACE, SERVICE, POD, DEPLOYMENT)
    for kind in kinds:
        for obj in snapshot.of(kind):
            for name, value in sorted(obj.metadata.annotations.items()):
                if is_istio(name) and name not in _WRITTEN_BY_OTHERS:
                    yield from _annotation(obj, name, value)


def is_istio(name: str) -> bool:
    """Whether an annotation is in a domain of Istio's."""
    return name == INGRESS_CLASS or name.partition("/")[0].endswith("istio.io")


def _annotation(obj: Object, name: str, value: str) -> Iterator[Message]:
    at = ("metadata", "annotations", name)
    if name not in ANNOTATIONS:
        yield messages.UNKNOWN_ANNOTATION.about(obj, name, at=at)
        return
    if name in DEPRECATED and not (name == INJECT and INJECT in obj.metadata.labels):
        instead = f' in favor of the label "{INJECT}"' if name == INJECT else ""
        yield messages.DEPRECATED_ANNOTATION.about(obj, name, instead, at=at)
    kinds = ANNOTATIONS[name]
    if ANY in kinds:
        return
    if obj.kind not in kinds:
        yield messages.MISPLACED_ANNOTATION.about(obj, name, kinds, at=at)
    elif fault := _fault(name, value):
        yield messages.INVALID_ANNOTATION.about(obj, name, fault, at=at)


def _fault(name: str, value: str) -> str:
    """Why a value cannot be used; "" where it can."""
    return _CHECKS[name](value) if name in _CHECKS else ""


def _mode(value: str) -> str:
    return "" if value in ("REDIRECT", "TPROXY", "NONE") else f'"{value}" is none of REDIRECT, TPROXY and NONE'


def _count(value: str) -> str:
    return "" if value.isdecimal() and int(value) < 1 << 32 else f'"{value}" is no whole number'


def _port(value: str) -> str:
    word = value.strip()
    return "" if word.isdecimal() and int(word) < 1 << 16 else f'"{word}" is no port'


def _ports(value: str) -> str:
    return next(filter(None, map(_port, value.split(","))), "") if value.strip() else ""


def _all_or_ports(value: str) -> str:
    return "" if value == "*" else _ports(value)


def _ranges(value: str) -> str:
    for word in value.split(",") if value else ():
        try:
            if "/" not in word:
                raise ValueError
            ipaddress.ip_network(word, strict=False)
        except ValueError:
            return f'"{word}" is no range of addresses such as 10.0.0.0/8'
    return ""


def _all_or_ranges(value: str) -> str:
    return "" if value == "*" else _ranges(value)


def _interfaces(value: str) -> str:
    wrong = [word for word in value.split(",") if value and not _INTERFACE.fullmatch(word.strip())]
    return f'"{wrong[0]}" is no name of a network interface' if wrong else ""


def _boolean(value: str) -> str:
    known = {"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"}
    return "" if value in known else f'"{value}" is neither true nor false'


def _quantity(value: str) -> str:
    return "" if _QUANTITY.fullmatch(value) else f'"{value}" is no amount such as 500m or 128Mi'


def _proxy_config(value: str) -> str:
    try:
        overlay_proxy_config(MeshConfig().default_config, annotated_proxy_config({PROXY_CONFIG: value}, ""))
    except Invalid as error:
        return error.message
    return ""


_CHECKS: dict[str, Callable[[str], str]] = {
    "sidecar.istio.io/interceptionMode": _mode,
    "status.sidecar.istio.io/port": _port,
    "readiness.status.sidecar.istio.io/initialDelaySeconds": _count,
    "readiness.status.sidecar.istio.io/periodSeconds": _count,
    "readiness.status.sidecar.istio.io/failureThreshold": _count,
    "traffic.sidecar.istio.io/includeOutboundIPRanges": _all_or_ranges,
    "traffic.sidecar.istio.io/excludeOutboundIPRanges": _ranges,
    "traffic.sidecar.istio.io/includeInboundPorts": _all_or_ports,
    "traffic.sidecar.istio.io/excludeInboundPorts": _ports,
    "traffic.sidecar.istio.io/excludeOutboundPorts": _ports,
    "traffic.sidecar.istio.io/excludeInterfaces": _interfaces,
    "traffic.sidecar.istio.io/kubevirtInterfaces": _interfaces,
    "istio.io/reroute-virtual-interfaces": _interfaces,
    "prometheus.istio.io/merge-metrics": _boolean,
    PROXY_CONFIG: _proxy_config,
    "sidecar.istio.io/proxyCPU": _quantity,
    "sidecar.istio.io/proxyMemory": _quantity,
    "sidecar.istio.io/proxyCPULimit": _quantity,
    "sidecar.istio.io/proxyMemoryLimit": _quantity,
}
