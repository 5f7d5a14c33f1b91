"""The small messages that many resources share."""

from __future__ import annotations

import ipaddress
import re

from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from pilotfish.mesh.records import ObjectKey


def any_of(message: Message) -> AnyMessage:
    """The message in an Any, serialised the same way each time."""
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed


def duration(seconds: float) -> Duration:
    """Seconds as a Duration, to the nanosecond."""
    whole = int(seconds)
    return Duration(seconds=whole, nanos=round((seconds - whole) * 1e9))


def socket_address(address: str, port: int, *, udp: bool = False) -> address_pb2.Address:
    return address_pb2.Address(
        socket_address=address_pb2.SocketAddress(
            protocol=address_pb2.SocketAddress.UDP if udp else address_pb2.SocketAddress.TCP,
            address=address,
            port_value=port,
        )
    )


def endpoint_address(address: str, port: int) -> address_pb2.Address:
    """An upstream's address; "unix:///path" is a Unix socket."""
    if address.startswith("unix://"):
        return address_pb2.Address(pipe=address_pb2.Pipe(path=address.removeprefix("unix://")))
    return socket_address(address, port)


def cidr(text: str) -> address_pb2.CidrRange:
    """An address or a range as a CidrRange."""
    network = ipaddress.ip_network(text, strict=False)
    found = address_pb2.CidrRange(address_prefix=str(network.network_address))
    found.prefix_len.value = network.prefixlen
    return found


def from_ads() -> config_source_pb2.ConfigSource:
    """Over the aggregated stream, waited for without a limit."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        initial_fetch_timeout=Duration(),
        resource_api_version=config_source_pb2.ApiVersion.V3,
    )


def name_source(metadata: base_pb2.Metadata, source: ObjectKey) -> None:
    """Put into metadata which object of networking.istio.io something was made from, for tools to show it.

    Istio: BuildConfigInfoMetadata.
    """
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", source.kind).lower()
    path = f"/apis/networking.istio.io/v1/namespaces/{source.namespace}/{kind}/{source.name}"
    metadata.filter_metadata["istio"].update({"config": path})
