"""Who is at the other end of a stream: what its `Node` says, what its certificate proves, and whether the two agree."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import grpc
from cryptography import x509
from google.protobuf import struct_pb2

from pilotfish.pki.authority import SubjectNames
from pilotfish.pki.identity import Identity, node_identity
from pilotfish.xds.source import ProxyNode
from pilotfish.xds.trust import TrustDomains

TYPES = frozenset({"sidecar", "router", "dns", "grpc"})
_OF_NODES = frozenset({"router", "dns"})
"""Types that a node agent runs itself, under the node's certificate."""
_OF_WORKLOADS = TYPES - {"dns"}
_NODE_USER = "system:node:"
OPERATORS = frozenset({"system:masters", "system:nodes"})
"""Kubernetes' groups of those who may see everything: administrators and nodes. A certificate's organisations."""


class Refused(Exception):
    """A stream or a request is turned away; `code` is the gRPC status and the message says why."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a client certificate names: a SPIFFE identity, and for node agents the node."""

    identity: Identity
    node: str = ""


def parse_node(node: Any) -> ProxyNode:
    """The proxy that an `envoy.config.core.v3.Node` describes. Raises Refused when its id has another form.

    Istio: "<type>~<ip>~<name>.<namespace>~<DNS domain>"; metadata NAMESPACE and GENERATOR take precedence.
    """
    metadata = _plain(node.metadata)
    parts = node.id.split("~")
    if len(parts) != 4 or parts[0] not in TYPES:
        raise Refused(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"node id {node.id!r} is not of the form <type>~<ip>~<name>.<namespace>~<domain>"
            f" with one of the types {', '.join(sorted(TYPES))}",
        )
    kind, ip, full_name, _ = parts
    name, _, namespace = full_name.rpartition(".")
    if ip:
        try:
            ipaddress.ip_address(ip)
        except ValueError as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"node id {node.id!r}: {error}") from error
    if kind == "sidecar" and metadata.get("GENERATOR") == "grpc":
        kind = "grpc"
    namespace = str(metadata.get("NAMESPACE") or namespace)
    return ProxyNode(node.id, kind, ip, name or full_name, namespace, metadata)


def peer_of(context: Any) -> Peer | None:
    """Whom the connection's client certificate names (gRPC has verified it); None where there is no certificate.

    Raises Refused when the certificate names no single workload or node.
    """
    certificates = context.auth_context().get("x509_pem_cert")
    if not certificates:
        return None
    certificate = x509.load_pem_x509_certificate(certificates[0])
    uris = SubjectNames.within(certificate).uris
    if len(uris) != 1:
        raise Refused(
            grpc.StatusCode.UNAUTHENTICATED, f"the client certificate names {len(uris)} SPIFFE identities, not one"
        )
    try:
        identity = Identity.parse(next(iter(uris)))
    except ValueError as error:
        raise Refused(grpc.StatusCode.UNAUTHENTICATED, f"the client certificate's {error}") from error
    common_names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    user = str(common_names[0].value) if common_names else ""
    is_node = identity == node_identity(identity.trust_domain) and user.startswith(_NODE_USER)
    return Peer(identity, user.removeprefix(_NODE_USER) if is_node else "")


def require_operator(context: Any) -> None:
    """Raises Refused unless the connection's client certificate is an administrator's or a node's: only they may look
    into other proxies' configuration (Istio: ENABLE_DEBUG_ENDPOINT_AUTH).
    """
    certificates = context.auth_context().get("x509_pem_cert")
    if not certificates:
        raise Refused(grpc.StatusCode.UNAUTHENTICATED, "a client certificate is needed")
    subject = x509.load_pem_x509_certificate(certificates[0]).subject
    groups = {str(entry.value) for entry in subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)}
    if groups.isdisjoint(OPERATORS):
        raise Refused(
            grpc.StatusCode.PERMISSION_DENIED,
            f"the client certificate is of none of the groups {', '.join(sorted(OPERATORS))}",
        )


def authorised(node: ProxyNode, peer: Peer | None, trusted: TrustDomains) -> ProxyNode:
    """The node with the service account that its certificate proves. Raises Refused unless the certificate allows what
    the node id claims: a workload speaks for its own namespace, a node agent for the node's gateway and its DNS process
    (Istio: the check of `PILOT_ENABLE_XDS_IDENTITY_CHECK`).
    """
    if peer is None:
        raise Refused(grpc.StatusCode.UNAUTHENTICATED, f"{node.id} shows no client certificate")
    identity = peer.identity
    if identity.trust_domain not in trusted:
        raise Refused(grpc.StatusCode.PERMISSION_DENIED, f"{identity} is of no trust domain of this mesh")
    own_type = node.type in (_OF_NODES if peer.node else _OF_WORKLOADS)
    if not own_type or not (peer.node or node.namespace == identity.namespace):
        raise Refused(
            grpc.StatusCode.PERMISSION_DENIED,
            f"{identity} may not connect as {node.type} of namespace {node.namespace!r} ({node.id})",
        )
    return node if peer.node else replace(node, service_account=identity.service_account)


def _plain(value: Any) -> Mapping[str, Any]:
    return {key: _plain_value(field) for key, field in value.fields.items()}


def _plain_value(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return _plain(value.struct_value)
        case "list_value":
            return [_plain_value(item) for item in value.list_value.values]
        case "null_value" | None:
            return None
        case kind:
            return getattr(value, kind)
