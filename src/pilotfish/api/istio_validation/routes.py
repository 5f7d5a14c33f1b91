"""What all routes of a VirtualService share: destinations, weights and the gateways that they are for."""

from __future__ import annotations

from collections.abc import Sequence

from pilotfish.api.faults import invalid
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.hosts import host_fault, is_label, subset_name
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.destination import Destination


def destination(path: str, target: Destination) -> Faults:
    if target.host == "*":
        yield invalid(f"{path}.host", target.host, "a destination is one host; name it")
    elif fault := host_fault(target.host, wildcard=True):
        yield invalid(f"{path}.host", target.host, fault)
    if target.subset:
        yield from subset_name(f"{path}.subset", target.subset)
    if target.port:
        yield from values.port_number(f"{path}.port.number", target.port.number)


def weights(path: str, given: Sequence[int]) -> Faults:
    """The weights of a route's destinations; a single one needs none."""
    for position, weight in enumerate(given):
        yield from values.not_negative(f"{path}[{position}].weight", weight)
    if len(given) > 1 and not any(given):
        yield invalid(path, list(given), "all weights are 0, so that no destination gets a request; give each a weight")


def gateway_names(path: str, names: Sequence[str]) -> Faults:
    """ "<namespace>/<name>", "<name>" in the namespace of the VirtualService, or "mesh" for the sidecars."""
    for position, name in enumerate(names):
        where = f"{path}[{position}]"
        namespace, slash, gateway = name.partition("/")
        if not slash:
            if fault := host_fault(name, wildcard=False):
                yield invalid(where, name, f"expected <namespace>/<name> of a Gateway, or mesh: {fault}")
        elif not is_label(namespace) or not is_label(gateway):
            yield invalid(where, name, "expected <namespace>/<name> of a Gateway")


def gateway_name_warnings(path: str, names: Sequence[str]) -> Faults:
    for position, name in enumerate(names):
        if "/" not in name and "." in name:
            gateway, namespace, *_ = name.split(".")
            message = f'"{name}" is the old form of a gateway\'s name; write "{namespace}/{gateway}"'
            yield values.warning(f"{path}[{position}]", message)
