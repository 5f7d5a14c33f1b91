"""The name table from the control plane: a client of delta xDS that keeps what it has while nobody is there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, status_pb2

from pilotfish.api.demand import read_demand
from pilotfish.api.protos import NAME_TABLE_TYPE, NameTable
from pilotfish.node.dns.demands import Demands
from pilotfish.node.dns.table import NameRecord

log = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 2.0
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    # Channels to the same address share connections otherwise, and with them a failed one's back-off.
    ("grpc.use_local_subchannel_pool", 1),
)

OnChange = Callable[[Sequence[NameRecord], Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where xDS is served, and the PEM files for mutual TLS, read at each connection as they may be renewed."""

    address: str
    ca: Path
    certificate: Path
    key: Path

    def connect(self) -> grpc.aio.Channel:
        """A new channel. Raises OSError when a file cannot be read."""
        credentials = grpc.ssl_channel_credentials(
            self.ca.read_bytes(), self.key.read_bytes(), self.certificate.read_bytes()
        )
        return grpc.aio.secure_channel(self.address, credentials, options=_CHANNEL_OPTIONS)


def read_resource(resource: Any) -> NameRecord:
    """A name record from an xDS resource. Raises ValueError when it is none."""
    scope, _, host = resource.name.partition("/")
    if not scope or not host:
        raise ValueError(f"{resource.name!r}: a name table's resource is named <namespace>/<host> or */<host>")
    try:
        table = NameTable.FromString(resource.resource.value)
    except DecodeError as error:
        raise ValueError(f"{resource.name!r}: not a name table: {error}") from None
    if host not in table.table:
        raise ValueError(f"{resource.name!r}: its name table has no entry for {host!r}")
    info = table.table[host]
    return NameRecord(
        resource=resource.name,
        version=resource.version,
        ips=tuple(info.ips),
        registry=info.registry,
        shortname=info.shortname,
        namespace=info.namespace,
        alt_hosts=tuple(info.alt_hosts),
        canonical=info.canonical,
    )


class Subscription:
    """Keeps a table as the control plane has it: `on_change` gets changed records and removed resource names.

    `records` gives what the table holds; a new stream starts from there, so that only differences travel.
    """

    def __init__(
        self,
        connect: Callable[[], grpc.aio.Channel],
        node_id: str,
        records: Callable[[], Mapping[str, NameRecord]],
        on_change: OnChange,
        *,
        subscribe: Iterable[str] = (),
        demands: Demands | None = None,
    ) -> None:
        """`subscribe` are the resources wanted; none means all that there are. `demands` are asked for besides."""
        self._connect = connect
        self._node_id = node_id
        self._records = records
        self._on_change = on_change
        self._wanted = tuple(sorted(subscribe))
        self._demands = demands
        self.connected = False

    async def run(self) -> None:
        """Stay subscribed, for ever."""
        delay = _FIRST_DELAY
        while True:
            try:
                async with self._connect() as channel:
                    await self._stream(channel)
                reason = "the stream ended"
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
            except OSError as error:
                reason = str(error)
            if self.connected:
                delay = _FIRST_DELAY
                log.warning("the control plane is away, names stay as they are: %s", reason)
            else:
                log.debug("no control plane: %s", reason)
            self.connected = False
            if self._demands is not None:
                self._demands.disconnected()
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY)

    async def _stream(self, channel: grpc.aio.Channel) -> None:
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
        outbox: asyncio.Queue[Any] = asyncio.Queue()
        outbox.put_nowait(self._first_request())
        if self._demands is not None:
            self._demands.connecting(lambda names, gone: outbox.put_nowait(_change(names, gone)))
        writer = asyncio.create_task(_write(call, outbox))
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                if not self.connected:
                    self._note_connection()
                outbox.put_nowait(self._apply(response))
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def _first_request(self) -> Any:
        wanted = list(self._wanted)
        versions = {name: record.version for name, record in self._records().items()}
        if self._demands is not None:
            wanted += ["*", *self._demands.names]
            versions |= self._demands.versions
        return discovery_pb2.DeltaDiscoveryRequest(
            node=base_pb2.Node(id=self._node_id),
            type_url=NAME_TABLE_TYPE,
            resource_names_subscribe=wanted,
            initial_resource_versions=versions,
        )

    def _note_connection(self) -> None:
        self.connected = True
        log.info("names come from the control plane")
        if self._demands is not None:
            self._demands.connected()

    def _apply(self, response: Any) -> Any:
        """Take a response over, or nothing of it when a resource is malformed; gives the acknowledgement or refusal."""
        reply = discovery_pb2.DeltaDiscoveryRequest(type_url=NAME_TABLE_TYPE, response_nonce=response.nonce)
        try:
            granted = [resource for resource in response.resources if read_demand(resource.name)]
            changed = [read_resource(resource) for resource in response.resources if not read_demand(resource.name)]
        except ValueError as error:
            log.error("names from the control plane are refused: %s", error)
            reply.error_detail.CopyFrom(status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=str(error)))
            return reply
        removed = [name for name in response.removed_resources if not read_demand(name)]
        if changed or removed or not (granted or response.removed_resources):
            self._on_change(changed, removed)
        if self._demands is not None:
            for name in response.removed_resources:
                self._demands.revoked(name)
            for resource in granted:
                self._demands.granted(resource.name, resource.version)
        return reply


def _change(names: Sequence[str], gone: Sequence[str]) -> Any:
    """A change of the subscription, apart from any answer."""
    return discovery_pb2.DeltaDiscoveryRequest(
        type_url=NAME_TABLE_TYPE, resource_names_subscribe=names, resource_names_unsubscribe=gone
    )


async def _write(call: Any, outbox: asyncio.Queue[Any]) -> None:
    """Send what is put out, one after another, until the stream ends (which its reader is told)."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        while True:
            await call.write(await outbox.get())
