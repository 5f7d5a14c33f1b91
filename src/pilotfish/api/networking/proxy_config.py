"""ProxyConfig (networking/v1beta1/proxy_config.proto), which is not MeshConfig's field of the same name."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from pilotfish.api.istio_types import IstioStatus, WorkloadSelector
from pilotfish.api.meta import Object, Struct


class ProxyImage(Struct):
    image_type: str = ""


class ProxyConfigSpec(Struct):
    """`concurrency` are Envoy's worker threads; 0 is one for each processor."""

    selector: WorkloadSelector | None = None
    concurrency: Annotated[int, Meta(ge=0, description="a whole number of at least 0")] | None = None
    environment_variables: dict[str, str] = {}
    image: ProxyImage | None = None


class ProxyConfig(Object):
    spec: ProxyConfigSpec = ProxyConfigSpec()
    status: IstioStatus = IstioStatus()
