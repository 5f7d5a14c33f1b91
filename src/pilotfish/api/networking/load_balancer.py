"""How a client spreads its requests (networking/v1alpha3/destination_rule.proto: LoadBalancerSettings)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from pilotfish.api.istio_types import Duration, Percentage, UInt32, UInt64
from pilotfish.api.meta import Struct

SimpleLB = Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"]


class RingHash(Struct):
    minimum_ring_size: UInt64 = 0


class MagLev(Struct):
    table_size: UInt64 = 0


class CookieAttribute(Struct):
    name: str
    value: str = ""


class HTTPCookie(Struct):
    """The cookie that is hashed; with a `ttl` the proxy makes it where the client has none."""

    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[CookieAttribute, ...] = ()


class ConsistentHashLB(Struct):
    ONE_OF: ClassVar = (
        ("http_header_name", "http_cookie", "use_source_ip", "http_query_parameter_name"),
        ("ring_hash", "maglev"),
    )

    http_header_name: str | None = None
    http_cookie: HTTPCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: UInt64 = 0


class Distribute(Struct):
    """From the localities that match, so many of each 100 requests to each of those."""

    from_: str = field(name="from", default="")
    to: dict[str, UInt32] = {}


class Failover(Struct):
    """Regions."""

    from_: str = field(name="from", default="")
    to: str = ""


class LocalityLoadBalancerSetting(Struct):
    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: bool | None = None


class ZoneAwareLoadBalancerSetting(Struct):
    enabled: bool | None = None
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: Annotated[int, Meta(ge=1, description="a whole number of at least 1")] | None = None


class WarmupConfiguration(Struct):
    """A new endpoint's share grows from `minimum_percent` to all of it within `duration`."""

    duration: Duration
    minimum_percent: Percentage | None = None
    aggression: Annotated[float, Meta(ge=0, description="a number of at least 0")] | None = None


class LoadBalancerSettings(Struct):
    ONE_OF: ClassVar = (("simple", "consistent_hash"),)

    simple: SimpleLB | None = None
    consistent_hash: ConsistentHashLB | None = None
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    warmup_duration_secs: Duration | None = None
    warmup: WarmupConfiguration | None = None
