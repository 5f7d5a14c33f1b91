"""What istioctl asks the control plane over ADS (`istioctl proxy-status --xds-address …`): types that are not Envoy's.

(Istio: pilot/pkg/xds/statusgen.go)
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.status.v3 import csds_pb2
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as Packed

from pilotfish.api.anytypes import ANY_KNOWN
from pilotfish.xds import debug
from pilotfish.xds.node import Refused
from pilotfish.xds.server import DEBUG, Connection
from pilotfish.xds.status import TypeState

SYNCZ, CONFIG_DUMP = f"{DEBUG}syncz", f"{DEBUG}config_dump"
CONTROL_PLANE = '{"Component":"istiod","ID":"istiod"}'
_PROXIES = ("sidecar", "router", "grpc")


def response(request: Any, nonce: str, connections: Iterable[Connection]) -> bytes:
    """The serialised answer to a question, in the variant of ADS in which it was asked. Raises Refused."""
    control_plane = base_pb2.ControlPlane(identifier=CONTROL_PLANE)
    now = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(request, discovery_pb2.DiscoveryRequest):
        found = _answer(request.type_url, request.resource_names, connections)
        answer: Any = discovery_pb2.DiscoveryResponse(
            version_info=now, resources=[packed for _, packed in found], type_url=request.type_url, nonce=nonce
        )
    else:
        found = _answer(request.type_url, request.resource_names_subscribe, connections)
        resources = [discovery_pb2.Resource(name=name, version=now, resource=packed) for name, packed in found]
        answer = discovery_pb2.DeltaDiscoveryResponse(resources=resources, type_url=request.type_url, nonce=nonce)
    answer.control_plane.CopyFrom(control_plane)
    body: bytes = answer.SerializeToString()
    return body


def _answer(type_url: str, names: Sequence[str], connections: Iterable[Connection]) -> list[tuple[str, Packed]]:
    """What is asked for, by name."""
    if type_url == SYNCZ:
        states = (connection.state for connection in connections if connection.state.node.type in _PROXIES)
        return [(state.node.id, _packed(_sync_status(state.node, state.types.values()))) for state in states]
    if type_url != CONFIG_DUMP:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"{type_url}: ask for {SYNCZ} or {CONFIG_DUMP}")
    if len(names) != 1:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"{CONFIG_DUMP} is about one proxy: POD.NAMESPACE")
    for connection in connections:
        if names[0] in (connection.state.node.id, debug.full_name(connection.state.node)):
            sections = debug.config_dump(debug.resources_of(connection))["configs"]
            return [(names[0], _section(section)) for section in sections]
    raise Refused(grpc.StatusCode.NOT_FOUND, f"proxy {names[0]} is not connected to the control plane")


def _sync_status(node: Any, types: Iterable[TypeState]) -> Any:
    """What istioctl makes its table of: a `ClientConfig` without resources."""
    config = csds_pb2.ClientConfig(node=base_pb2.Node(id=node.id))
    told = ("CLUSTER_ID", "NAMESPACE", "ISTIO_VERSION")
    config.node.metadata.update({name: node.metadata[name] for name in told if name in node.metadata})
    for of_type in sorted(types, key=lambda of_type: of_type.type_url):
        generic = config.generic_xds_configs.add(type_url=of_type.type_url, config_status=_status_of(of_type))
        if of_type.sent_at is not None:
            generic.last_updated.FromDatetime(of_type.sent_at)
        if of_type.rejection is not None:
            generic.error_state.details = of_type.rejection.message
            generic.error_state.last_update_attempt.FromDatetime(of_type.rejection.at)
    return config


def _status_of(of_type: TypeState) -> int:
    if of_type.rejection is not None:
        return int(csds_pb2.ERROR)
    if not of_type.nonce_sent and not (of_type.resources and of_type.synced):
        return int(csds_pb2.NOT_SENT)
    return int(csds_pb2.SYNCED if of_type.nonce_sent == of_type.nonce_acked else csds_pb2.STALE)


def _packed(message: Any) -> Packed:
    packed = Packed()
    packed.Pack(message)
    return packed


def _section(section: Any) -> Packed:
    found: Packed = json_format.ParseDict(section, Packed(), descriptor_pool=ANY_KNOWN)
    return found
