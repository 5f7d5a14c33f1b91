"""From a pod's annotations (`traffic.sidecar.istio.io/…`, `sidecar.istio.io/interceptionMode`) to what is captured."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import TypeVar

from pilotfish.api.capture_ports import INBOUND, META, OUTBOUND
from pilotfish.node.capture import PROXY_ID, CaptureSpec, Network
from pilotfish.node.proxy import proxy_config

T = TypeVar("T")

_TRAFFIC = "traffic.sidecar.istio.io/"
_MODE = "sidecar.istio.io/interceptionMode"
_STATUS_PORT = "status.sidecar.istio.io/port"
_VIRTUAL_INTERFACES = ("istio.io/reroute-virtual-interfaces", f"{_TRAFFIC}kubevirtInterfaces")
_ALWAYS_EXCLUDED_INBOUND = (15090, 15021)  # Envoy's metrics and health (Istio: the injection template)
_INTERFACE = re.compile(r'[^\s/:"]{1,15}')


class AnnotationError(ValueError):
    """One or more annotations of a pod say something impossible; the text has a line for each."""


def capture_spec(
    annotations: Mapping[str, str],
    environment: Mapping[str, str],
    *,
    proxy_uid: int = PROXY_ID,
    proxy_gid: int = PROXY_ID,
) -> CaptureSpec | None:
    """What the annotations ask to capture, or None where they ask for no capture (interceptionMode NONE).

    Defaults are Istio's: everything in and out but the proxy's own ports. `environment` is the proxy's, which says what
    annotations do not: ISTIO_META_DNS_CAPTURE, the mode, and ports. Raises AnnotationError that names every bad
    annotation.
    """
    problems: list[str] = []

    def read(name: str, parse: Callable[[str], T], default: T) -> T:
        if name not in annotations:
            return default
        try:
            return parse(annotations[name])
        except ValueError as error:
            problems.append(f'annotation {name}: "{annotations[name]}": {error}')
            return default

    annotations = {_MODE: environment.get(f"{META}INTERCEPTION_MODE") or "REDIRECT", **annotations}
    mode = read(_MODE, _mode, "")
    status_port = read(_STATUS_PORT, _port, proxy_config(environment).status_port)
    virtual = next((name for name in _VIRTUAL_INTERFACES if name in annotations), _VIRTUAL_INTERFACES[0])
    no_ports: tuple[int, ...] = ()
    excluded_inbound = read(f"{_TRAFFIC}excludeInboundPorts", _ports, no_ports)
    spec = CaptureSpec(
        dns=environment.get(f"{META}DNS_CAPTURE", "").lower() in ("true", "1"),
        include_outbound_ranges=read(f"{_TRAFFIC}includeOutboundIPRanges", _or_all(_networks), None),
        exclude_outbound_ranges=read(f"{_TRAFFIC}excludeOutboundIPRanges", _networks, ()),
        include_outbound_ports=read(f"{_TRAFFIC}includeOutboundPorts", _ports, ()),
        exclude_outbound_ports=read(f"{_TRAFFIC}excludeOutboundPorts", _ports, ()),
        include_inbound_ports=read(f"{_TRAFFIC}includeInboundPorts", _or_all(_ports), None),
        exclude_inbound_ports=(*_ALWAYS_EXCLUDED_INBOUND, status_port, *excluded_inbound),
        exclude_interfaces=read(f"{_TRAFFIC}excludeInterfaces", _interfaces, ()),
        virtual_interfaces=read(virtual, _interfaces, ()),
        proxy_uid=proxy_uid,
        proxy_gid=proxy_gid,
        outbound_port=int(environment.get(META + OUTBOUND) or CaptureSpec.outbound_port),
        inbound_port=int(environment.get(META + INBOUND) or CaptureSpec.inbound_port),
    )
    if problems:
        raise AnnotationError("\n".join(problems))
    return None if mode == "NONE" else spec


def _mode(text: str) -> str:
    if text == "TPROXY":
        raise ValueError("this mesh does not offer TPROXY; use REDIRECT, or NONE for no capture")
    if text not in ("REDIRECT", "NONE"):
        raise ValueError("expected REDIRECT or NONE")
    return text


def _or_all(parse: Callable[[str], tuple[T, ...]]) -> Callable[[str], tuple[T, ...] | None]:
    return lambda text: None if text.strip() == "*" else parse(text)


def _ports(text: str) -> tuple[int, ...]:
    return tuple(_port(part) for part in _parts(text))


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f'expected ports from 1 to 65535 separated by commas, found "{text}"')
    return int(text)


def _networks(text: str) -> tuple[Network, ...]:
    networks = []
    for part in _parts(text):
        if "/" not in part:
            raise ValueError(f'expected networks like 10.0.0.0/8 separated by commas, found "{part}"')
        networks.append(ip_network(part, strict=False))
    return tuple(networks)


def _interfaces(text: str) -> tuple[str, ...]:
    for part in _parts(text):
        if not _INTERFACE.fullmatch(part):
            raise ValueError(f'expected names of network interfaces separated by commas, found "{part}"')
    return tuple(_parts(text))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
