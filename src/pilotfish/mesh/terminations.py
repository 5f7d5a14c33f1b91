"""How TLS ends, as Gateways and Sidecars say it (Istio: ServerTLSSettings)."""

from __future__ import annotations

from pilotfish.api.istio_validation.tls import known_cipher_suite
from pilotfish.api.networking.tls import ServerTLSSettings
from pilotfish.mesh.servers import TLS_VERSIONS, CertificateFiles, ClientCheck, Termination

_WORKLOAD = "builtin://"
"""The credential that stands for the proxy's own certificate of the mesh (Istio)."""
_CLIENT_CHECK = {
    "MUTUAL": ClientCheck.REQUIRED,
    "ISTIO_MUTUAL": ClientCheck.REQUIRED,
    "OPTIONAL_MUTUAL": ClientCheck.OPTIONAL,
}


def termination(tls: ServerTLSSettings) -> Termination:
    """The end of TLS, of a mode that ends it."""
    check = _CLIENT_CHECK.get(tls.mode, ClientCheck.NONE)
    names = tls.credential_names or ((tls.credential_name,) if tls.credential_name else ())
    workload = tls.mode == "ISTIO_MUTUAL" or any(name.startswith(_WORKLOAD) for name in names)
    own = tls.tls_certificates or (tls,)
    roots = ""
    if check is not ClientCheck.NONE and names and not workload:
        roots = tls.ca_cert_credential_name or names[0]
    return Termination(
        credentials=() if workload else names,
        files=()
        if workload or names
        else tuple(CertificateFiles(each.server_certificate, each.private_key) for each in own),
        workload=workload,
        client=check,
        root_credential=roots,
        roots="" if workload or names else tls.ca_certificates,
        revoked=tls.ca_crl,
        subject_names=tls.subject_alt_names,
        key_hashes=tls.verify_certificate_spki,
        certificate_hashes=tls.verify_certificate_hash,
        accept_untrusted=bool(tls.insecure_skip_verify),
        min_version=TLS_VERSIONS.get(tls.min_protocol_version, ""),
        max_version=TLS_VERSIONS.get(tls.max_protocol_version, ""),
        cipher_suites=tuple(dict.fromkeys(filter(known_cipher_suite, tls.cipher_suites))),
    )
