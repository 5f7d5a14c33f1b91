"""Istio's install.istio.io/v1alpha1: IstioOperator, the file that `istioctl install -f` takes."""

from __future__ import annotations

from typing import Any

from pilotfish.api.meta import Object, Struct


class IstioOperatorSpec(Struct):
    """`meshConfig`, `values` and `components` are open mappings here; what reads them checks what it reads."""

    profile: str = ""
    hub: str = ""
    tag: Any = None
    revision: str = ""
    namespace: str = ""
    install_package_path: str = ""
    default_revision: bool | None = None
    compatibility_version: str = ""
    mesh_config: dict[str, Any] = {}
    components: dict[str, Any] = {}
    addon_components: Any = None
    values: dict[str, Any] = {}
    unvalidated_values: Any = None
    resource_suffix: str = ""


class IstioOperatorStatus(Struct):
    status: str = ""
    message: str = ""
    component_status: Any = None


class IstioOperator(Object):
    spec: IstioOperatorSpec = IstioOperatorSpec()
    status: IstioOperatorStatus = IstioOperatorStatus()
