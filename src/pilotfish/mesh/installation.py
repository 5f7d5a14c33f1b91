"""What installing a mesh writes: from the IstioOperator that a user wrote to the objects of the installation. Pure.

Profiles and the objects' names, labels and ports are those of Istio (manifests/profiles and its charts). There is one
control plane a mesh, in istio-system, so revisions and other namespaces are refused.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from pilotfish.api.decode import decode, unknown_fields
from pilotfish.api.errors import FieldError, Invalid
from pilotfish.api.faults import forbidden, invalid, unsupported
from pilotfish.api.install import IstioOperator
from pilotfish.api.istio_validation import GATEWAY_COMPONENTS
from pilotfish.api.kinds import ISTIO_OPERATOR
from pilotfish.api.meta import Document, metadata_of
from pilotfish.mesh import charts, meshconfig, values
from pilotfish.mesh.meshconfig_unused import not_honoured

NAMESPACE = meshconfig.ROOT_NAMESPACE
INSTALLED_STATE = "installed-state"
DEFAULT_HUB, DEFAULT_TAG = "istio", "latest"

_DEFAULT: Document = {
    "profile": "default",
    "hub": DEFAULT_HUB,
    "tag": DEFAULT_TAG,
    "meshConfig": {"enablePrometheusMerge": True},
    "components": {
        "base": {"enabled": True},
        "pilot": {"enabled": True},
        "ingressGateways": [{"name": "istio-ingressgateway", "enabled": True}],
        "egressGateways": [{"name": "istio-egressgateway", "enabled": False}],
    },
    "values": {
        "global": {"istioNamespace": NAMESPACE, "configValidation": True},
        "gateways": {"istio-ingressgateway": {}, "istio-egressgateway": {}},
    },
}
PROFILES: Mapping[str, Document] = {
    "default": {},
    "demo": {
        "meshConfig": {"accessLogFile": "/dev/stdout"},
        "components": {"egressGateways": [{"name": "istio-egressgateway", "enabled": True}]},
        "values": {
            "global": {"proxy": {"resources": {"requests": {"cpu": "10m", "memory": "40Mi"}}}},
            "gateways": {"istio-ingressgateway": {"ports": [p.document() for p in charts.DEMO_INGRESS_PORTS]}},
        },
    },
    "minimal": {"components": {"ingressGateways": [{"name": "istio-ingressgateway", "enabled": False}]}},
    "empty": {
        "components": {
            "base": {"enabled": False},
            "pilot": {"enabled": False},
            "ingressGateways": [{"name": "istio-ingressgateway", "enabled": False}],
        }
    },
}
"""What each profile changes of the default one."""


@dataclass(frozen=True)
class Installation:
    """The objects to write, in order; `components` are what a user knows them by.

    `warnings` name fields that were given and have no effect yet.
    """

    objects: tuple[Document, ...]
    components: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def state(self) -> Document:
        """The IstioOperator that tells what is installed."""
        return self.objects[-1]


def installation(operator: Document) -> Installation:
    """The installation that an IstioOperator document asks for. Raises Invalid, naming every faulty field."""
    checked = _checked(operator)
    given = operator.get("spec") or {}
    values.values_of(checked.spec.values, "spec.values")
    profile = checked.spec.profile or "default"
    spec = _overlaid(_overlaid(_DEFAULT, PROFILES[profile]), {**given, "profile": profile})
    hub, tag = _image_source(given, spec)
    merged_values = _overlaid(spec["values"], {"global": {"hub": hub, "tag": tag}})
    mesh = _mesh_document(spec)
    meshconfig.mesh_config(mesh, "spec.meshConfig")
    warnings = [
        f"spec.meshConfig.{path} is accepted and has no effect yet"
        for path in not_honoured(given.get("meshConfig") or {})
    ]
    components = tuple(_component_objects(spec))
    objects: tuple[Document, ...] = (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        _config_map(meshconfig.CONFIG_MAP, mesh=_yaml(mesh), meshNetworks="networks: {}"),
        _config_map(values.CONFIG_MAP, values=json.dumps(merged_values, indent=2, sort_keys=True)),
        *components,
        {
            "apiVersion": ISTIO_OPERATOR.api_version,
            "kind": ISTIO_OPERATOR.kind,
            "metadata": {"name": INSTALLED_STATE, "namespace": NAMESPACE},
            "spec": spec,
        },
    )
    return Installation(objects, tuple(_component_names(spec)), tuple(warnings))


def with_settings(operator: Document, settings: Iterable[str]) -> Document:
    """The operator with settings laid over it, each as `istioctl --set` takes it: "meshConfig.accessLogFile=/x".

    A path starts below `spec`; "\\." is a dot in a name, "[0]" a position in a list. Raises Invalid for one that cannot
    be read.
    """
    changed = copy.deepcopy(operator)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise _refused([FieldError(path=path or setting, message="expected PATH=VALUE")])
        try:
            value = yaml.load(text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError:
            value = text
        _set(changed.setdefault("spec", {}), list(_steps(path)), value, path)
    return changed


def _steps(path: str) -> Iterator[str | int]:
    for part in path.replace("\\.", "\0").removeprefix("spec.").split("."):
        name, *positions = part.replace("\0", ".").split("[")
        yield name
        for position in positions:
            digits = position.removesuffix("]")
            if not digits.isdecimal():
                raise _refused([FieldError(path=path, message=f'"[{position}" is no position in a list')])
            yield int(digits)


def _set(container: Any, steps: list[str | int], value: Any, path: str) -> None:
    for here, following in zip(steps, [*steps[1:], None], strict=True):
        fits = isinstance(container, dict) if isinstance(here, str) else isinstance(container, list)
        if not fits or (isinstance(here, int) and here > len(container)):
            raise _refused([FieldError(path=path, message=f"there is nothing to set {here!r} in")])
        if isinstance(here, int) and here == len(container):
            container.append(None)
        if following is None:
            container[here] = value
            return
        nested = container.get(here) if isinstance(container, dict) else container[here]
        if nested is None:
            nested = container[here] = {} if isinstance(following, str) else []
        container = nested


def _refused(faults: list[FieldError], name: str = "") -> Invalid:
    return Invalid.of(ISTIO_OPERATOR.kind, ISTIO_OPERATOR.group, name, faults)


def _checked(operator: Document) -> IstioOperator:
    if not isinstance(operator, dict) or not isinstance(operator.get("spec") or {}, dict):
        raise _refused([FieldError(path="", message="expected an IstioOperator, an object with a spec")])
    name = str(metadata_of(operator).get("name", ""))
    faults = []
    if operator.get("kind") != ISTIO_OPERATOR.kind:
        faults.append(unsupported("kind", operator.get("kind"), [ISTIO_OPERATOR.kind]))
    if operator.get("apiVersion") != ISTIO_OPERATOR.api_version:
        faults.append(unsupported("apiVersion", operator.get("apiVersion"), [ISTIO_OPERATOR.api_version]))
    faults += unknown_fields(IstioOperator, operator)
    if faults:
        raise _refused(faults, name)
    # An empty section is as good as none.
    spec = {field: section for field, section in (operator.get("spec") or {}).items() if section is not None}
    checked = decode(ISTIO_OPERATOR, {**operator, "spec": spec})
    faults += ISTIO_OPERATOR.validate(checked)
    if checked.spec.revision:
        faults.append(forbidden("spec.revision", "a mesh has one control plane; leave the revision out"))
    if checked.spec.namespace not in ("", NAMESPACE):
        faults.append(invalid("spec.namespace", checked.spec.namespace, f"the control plane lives in {NAMESPACE}"))
    if faults:
        raise _refused(faults, name)
    return checked


def _overlaid(base: Any, overlay: Any) -> Any:
    """The overlay's fields over those of the base; objects merge, as do lists of objects with names."""
    if isinstance(base, dict) and isinstance(overlay, dict):
        kept = {name: value for name, value in overlay.items() if value is not None}
        return {
            **copy.deepcopy(base),
            **{name: _overlaid(base.get(name), value) for name, value in kept.items()},
        }
    if _named(base) and _named(overlay):
        merged = {item["name"]: copy.deepcopy(item) for item in base}
        for item in overlay:
            merged[item["name"]] = _overlaid(merged.get(item["name"], {}), item)
        return list(merged.values())
    return copy.deepcopy(overlay)


def _named(items: Any) -> bool:
    return isinstance(items, list) and all(isinstance(item, dict) and "name" in item for item in items)


def _image_source(given: Document, spec: Document) -> tuple[Any, Any]:
    """Hub and tag of the proxy's image: as the values say, else those given for pilot, else the installation's."""
    of_values = (given.get("values") or {}).get("global") or {}
    of_pilot = (given.get("components") or {}).get("pilot") or {}
    hub, tag = (of_values.get(name) or of_pilot.get(name) or spec[name] for name in ("hub", "tag"))
    return hub, tag


def _mesh_document(spec: Document) -> Document:
    """The MeshConfig as Istio's chart writes it: its own settings, the installation's values, then the user's."""
    own = {
        "trustDomain": "cluster.local",
        "rootNamespace": NAMESPACE,
        "defaultProviders": {"metrics": ["prometheus"]},
        "defaultConfig": {"discoveryAddress": f"istiod.{NAMESPACE}.svc:15012"},
    }
    of_values = spec["values"].get("meshConfig") or {}
    merged: Document = _overlaid(_overlaid(own, of_values), spec["meshConfig"])
    return merged


def _yaml(document: Document) -> str:
    return yaml.safe_dump(document, sort_keys=True, default_flow_style=False)


def _config_map(name: str, **data: str) -> Document:
    metadata = {"name": name, "namespace": NAMESPACE, "labels": charts.owned("Pilot")}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _component_objects(spec: Document) -> Iterator[Document]:
    components = spec["components"]
    if components.get("pilot", {}).get("enabled", True):
        yield charts.istiod_service()
    for component in GATEWAY_COMPONENTS:
        name = f"istio-{component.removesuffix('Gateways')}gateway"
        settings = _mapping(_mapping(spec["values"], "gateways", "spec.values"), name, "spec.values.gateways")
        for entry in components.get(component) or ():
            kubernetes = _mapping(entry, "k8s", f"spec.components.{component}[{entry['name']}]")
            if entry.get("enabled", False):
                gateway = charts.Gateway(component, {**entry, "k8s": kubernetes}, settings)
                yield from charts.gateway_objects(gateway)


def _mapping(parent: Document, name: str, path: str) -> Document:
    value = parent.get(name) or {}
    if not isinstance(value, dict):
        raise _refused([invalid(f"{path}.{name}", value, "expected an object")])
    return value


def _component_names(spec: Document) -> Iterator[str]:
    names = {"base": "Istio core", "pilot": "Istiod", "ingressGateways": "Ingress gateways"}
    names["egressGateways"] = "Egress gateways"
    for component, name in names.items():
        held = spec["components"].get(component)
        parts = held if isinstance(held, list) else [held or {}]
        if any(part.get("enabled", False) for part in parts):
            yield name
