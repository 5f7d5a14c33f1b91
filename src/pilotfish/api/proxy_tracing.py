"""ProxyConfig.tracing (istio/api mesh/v1alpha1 proxy.proto): where proxies send spans when no Telemetry says it."""

from __future__ import annotations

from typing import Any, ClassVar

from pilotfish.api.meta import Struct
from pilotfish.api.networking.tls import ClientTLSSettings
from pilotfish.api.telemetry import Environment, Literally, RequestHeader


class Agent(Struct):
    """`address` is "host:port"."""

    address: str = ""


class ProxyTag(Struct):
    ONE_OF: ClassVar = (("literal", "environment", "header"),)

    literal: Literally | None = None
    environment: Environment | None = None
    header: RequestHeader | None = None


class ProxyTracing(Struct):
    """`sampling` is a percentage; 0 is the mesh's default."""

    ONE_OF: ClassVar = (("zipkin", "lightstep", "datadog", "stackdriver", "open_census_agent"),)

    zipkin: Agent | None = None
    lightstep: Any = None
    datadog: Agent | None = None
    stackdriver: Any = None
    open_census_agent: Any = None
    custom_tags: dict[str, ProxyTag] = {}
    max_path_tag_length: int = 0
    sampling: float = 0.0
    tls_settings: ClientTLSSettings | None = None
    enable_istio_tags: bool | None = None
