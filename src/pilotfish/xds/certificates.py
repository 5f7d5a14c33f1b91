"""`istio.v1.auth.IstioCertificateService`: certificates for workloads, asked for by their nodes or by themselves."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from google.protobuf.message import DecodeError

from pilotfish.api.protos import CERTIFICATE_METHOD, IstioCertificateRequest, IstioCertificateResponse
from pilotfish.pki.authority import Authority
from pilotfish.pki.identity import Identity
from pilotfish.xds.node import Peer, Refused, peer_of
from pilotfish.xds.trust import TrustDomains

log = logging.getLogger("pilotfish.xds")

IMPERSONATED = "ImpersonatedIdentity"
"""The key of the request's metadata under which a node names the identity that it wants a certificate for (Istio)."""

RunsOn = Callable[[str, Identity], bool]
"""Whether a pod with that service account is bound to the node of that name."""


def certificate_service(authority: Authority, trusted: TrustDomains, runs_on: RunsOn) -> grpc.GenericRpcHandler:
    """The service, to be added to a gRPC server whose clients show certificates that `authority` issued."""

    async def create_certificate(message: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            return _create(message, peer_of(context), authority, trusted, runs_on)
        except Refused as refused:
            log.warning("no certificate for %s: %s", context.peer(), refused)
            await context.abort(refused.code, str(refused))

    service, _, method = CERTIFICATE_METHOD.removeprefix("/").partition("/")
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(create_certificate)
    return grpc.method_handlers_generic_handler(service, {method: handler})


def _create(message: bytes, peer: Peer | None, authority: Authority, trusted: TrustDomains, runs_on: RunsOn) -> bytes:
    if peer is None:
        raise Refused(grpc.StatusCode.UNAUTHENTICATED, "a certificate is needed to ask for certificates")
    try:
        request = IstioCertificateRequest.FromString(message)
    except DecodeError as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"not an IstioCertificateRequest: {error}") from error
    identity = granted(peer, request.metadata, trusted, runs_on)
    seconds = request.validity_duration
    lifetime = dt.timedelta(seconds=min(seconds, 10**9)) if seconds > 0 else None
    try:
        chain = authority.sign_workload(request.csr.encode(), identity, lifetime)
    except ValueError as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
    log.debug("certificate for %s at the request of %s", identity, peer.node or peer.identity)
    certificates = (_pem(certificate) for certificate in x509.load_pem_x509_certificates(chain))
    response: bytes = IstioCertificateResponse(cert_chain=certificates).SerializeToString()
    return response


def granted(peer: Peer, metadata: Any, trusted: TrustDomains, runs_on: RunsOn) -> Identity:
    """The identity that a peer gets a certificate for: its own, or for a node that of a pod which is bound to it.

    Raises Refused.
    """
    own = peer.identity
    if own.trust_domain not in trusted:
        raise Refused(grpc.StatusCode.PERMISSION_DENIED, f"{own} is of no trust domain of this mesh")
    uri = metadata.fields[IMPERSONATED].string_value if IMPERSONATED in metadata.fields else ""
    if not uri:
        return own
    try:
        wanted = Identity.parse(uri)
    except ValueError as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"{IMPERSONATED} {error}") from error
    if wanted == own:
        return own
    if not peer.node:
        raise Refused(grpc.StatusCode.PERMISSION_DENIED, f"{own} is not a node agent and cannot ask for {wanted}")
    if wanted.trust_domain not in trusted or not runs_on(peer.node, wanted):
        raise Refused(
            grpc.StatusCode.PERMISSION_DENIED,
            f"node {peer.node} has no pod with service account {wanted.service_account} in namespace"
            f" {wanted.namespace}, and cannot ask for {wanted}",
        )
    return wanted


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
