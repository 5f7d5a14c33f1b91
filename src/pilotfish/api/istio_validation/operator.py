"""What is refused of an IstioOperator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pilotfish.api.errors import FieldError
from pilotfish.api.faults import invalid, required, unsupported
from pilotfish.api.install import IstioOperator

PROFILES = ("default", "demo", "empty", "minimal")
COMPONENTS = ("base", "pilot", "cni", "ztunnel", "istiodRemote", "ingressGateways", "egressGateways")
GATEWAY_COMPONENTS = ("ingressGateways", "egressGateways")
_COMPONENT_FIELDS = ("enabled", "namespace", "hub", "tag", "k8s")
_GATEWAY_FIELDS = (*_COMPONENT_FIELDS, "name", "label")


def istio_operator(operator: IstioOperator) -> Iterator[FieldError]:
    """The faults of an IstioOperator's outline; what its meshConfig and values say is checked where it is read."""
    spec = operator.spec
    if spec.profile and spec.profile not in PROFILES:
        yield unsupported("spec.profile", spec.profile, PROFILES)
    if spec.tag is not None and (isinstance(spec.tag, bool) or not isinstance(spec.tag, str | int | float)):
        yield invalid("spec.tag", spec.tag, "a tag is a text or a number")
    for name, component in spec.components.items():
        path = f"spec.components.{name}"
        if name not in COMPONENTS:
            yield unsupported(path, name, COMPONENTS)
        elif name in GATEWAY_COMPONENTS:
            if not isinstance(component, list):
                yield invalid(path, component, "expected a list of gateways")
                continue
            for position, gateway in enumerate(component):
                yield from _component(f"{path}[{position}]", gateway, _GATEWAY_FIELDS)
                if isinstance(gateway, dict) and not gateway.get("name"):
                    yield required(f"{path}[{position}].name", "a gateway is known by its name")
        else:
            yield from _component(path, component, _COMPONENT_FIELDS)


def _component(path: str, component: Any, known: tuple[str, ...]) -> Iterator[FieldError]:
    if not isinstance(component, dict):
        yield invalid(path, component, "expected an object")
        return
    for name in component:
        if name not in known:
            yield unsupported(f"{path}.{name}", name, known)
    if not isinstance(component.get("enabled", True), bool):
        yield invalid(f"{path}.enabled", component["enabled"], "expected true or false")
