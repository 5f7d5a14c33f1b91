"""A pod's certificate, asked of the control plane in the pod's name, as ztunnel asks for its pods'."""

from __future__ import annotations

from typing import NamedTuple

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pilotfish.api.errors import ApiError, Forbidden, ServiceUnavailable
from pilotfish.api.protos import CERTIFICATE_METHOD, IstioCertificateRequest, IstioCertificateResponse

SERVER_NAME = "istiod.istio-system.svc"
TIMEOUT = 10.0


class WorkloadCertificate(NamedTuple):
    """`chain` is the certificate and what signed it, leaf first and root last; all PEM."""

    chain: bytes
    key: bytes

    @property
    def root(self) -> bytes:
        """The root certificate alone: what the workload trusts."""
        return x509.load_pem_x509_certificates(self.chain)[-1].public_bytes(serialization.Encoding.PEM)


async def obtain(
    target: str, credentials: grpc.ChannelCredentials, identity: str, *, timeout: float = TIMEOUT
) -> WorkloadCertificate:
    """A certificate for the identity (a SPIFFE URI) with a key made here, from the control plane at `target`.

    `target` is host:port; `credentials` carry the node's own certificate. Raises Forbidden when the control plane does
    not let this node have it, ServiceUnavailable when there is no answer within `timeout` seconds, ApiError for any
    other refusal.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    request = IstioCertificateRequest(csr=_signing_request(key, identity).decode())
    request.metadata["ImpersonatedIdentity"] = identity
    # The address is the node's own; the certificate bears the name by which Istio's proxies know the control plane.
    options = [("grpc.ssl_target_name_override", SERVER_NAME)]
    async with grpc.aio.secure_channel(target, credentials, options=options) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CERTIFICATE_METHOD)
        try:
            reply = await call(request.SerializeToString(), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise _explained(error, target, identity) from error
    chain = "".join(IstioCertificateResponse.FromString(reply).cert_chain).encode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return WorkloadCertificate(chain, private)


def _signing_request(key: ec.EllipticCurvePrivateKey, identity: str) -> bytes:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _explained(error: grpc.aio.AioRpcError, target: str, identity: str) -> ApiError:
    what = f"no certificate for {identity} from {target}: {error.details()}"
    match error.code():
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return Forbidden(what)
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            return ServiceUnavailable(what)
        case _:
            return ApiError(what)
