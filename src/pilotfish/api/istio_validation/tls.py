"""What Istio refuses of TLS settings, and what it warns of (ValidateTLS, validateTLSOptions)."""

from __future__ import annotations

from pilotfish.api.faults import forbidden, invalid, required
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.tls import ClientTLSSettings, ServerTLSSettings, TLSCertificate

CIPHER_SUITES = frozenset(
    {
        *(f"ECDHE-{key}-AES128-GCM-SHA256" for key in ("ECDSA", "RSA")),
        *(f"ECDHE-{key}-AES256-GCM-SHA384" for key in ("ECDSA", "RSA")),
        *(f"ECDHE-{key}-CHACHA20-POLY1305" for key in ("ECDSA", "RSA")),
        *(f"ECDHE-{key}-AES{bits}-SHA" for key in ("ECDSA", "RSA") for bits in (128, 256)),
        *("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA", "DES-CBC3-SHA", "ALL", ""),
    }
)
"""Those that Envoy's TLS library knows."""

TERMINATING = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")
_CONFIG_MAP = "configmap://"


def known_cipher_suite(suite: str) -> bool:
    """Whether Envoy takes it; its operators, such as "-ALL", stand before a name."""
    return not suite[:1].isalnum() or suite in CIPHER_SUITES


def client_tls(path: str, tls: ClientTLSSettings, namespace: str) -> Faults:
    """The faults of TLS that a proxy originates; `namespace` is that of the object that says so."""
    if tls.credential_name.startswith(_CONFIG_MAP):
        owner, slash, name = tls.credential_name.removeprefix(_CONFIG_MAP).partition("/")
        if not name if slash else not owner:
            yield invalid(f"{path}.credentialName", tls.credential_name, "expected configmap://<namespace>/<name>")
        elif slash and owner != namespace:
            why = f"a ConfigMap of this namespace is needed: configmap://{namespace}/{name}"
            yield invalid(f"{path}.credentialName", tls.credential_name, why)
    if tls.insecure_skip_verify and tls.mode in ("SIMPLE", "MUTUAL"):
        given = {"caCertificates": tls.ca_certificates, "subjectAltNames": tls.subject_alt_names}
        if tls.mode == "SIMPLE":
            given["credentialName"] = tls.credential_name
        for name, value in given.items():
            if value:
                yield forbidden(
                    f"{path}.{name}", "with insecureSkipVerify nothing is compared with it; give one of them"
                )
    if tls.mode in ("SIMPLE", "MUTUAL") and tls.credential_name:
        files = {
            "clientCertificate": tls.client_certificate,
            "privateKey": tls.private_key,
            "caCertificates": tls.ca_certificates,
            "caCrl": tls.ca_crl,
        }
        for name, value in files.items():
            if value:
                yield forbidden(f"{path}.{name}", "credentialName says where certificates come from; give one of them")
    elif tls.mode == "MUTUAL":
        for name, value in (("clientCertificate", tls.client_certificate), ("privateKey", tls.private_key)):
            if not value:
                yield required(
                    f"{path}.{name}", "mode MUTUAL presents a certificate; give its files or a credentialName"
                )


def server_tls(path: str, tls: ServerTLSSettings) -> Faults:
    """The faults of TLS that a proxy terminates."""
    if tls.mode == "ISTIO_MUTUAL":
        for name, value in _certificates(tls).items():
            if value and name != "caCrl":
                yield forbidden(f"{path}.{name}", "mode ISTIO_MUTUAL uses the mesh's certificates; leave it out")
        return
    sources = {
        "serverCertificate": tls.server_certificate and tls.private_key,
        "credentialName": tls.credential_name,
        "credentialNames": tls.credential_names,
        "tlsCertificates": tls.tls_certificates,
    }
    first, *others = [name for name, value in sources.items() if value] or [""]
    for other in others:
        yield forbidden(f"{path}.{other}", f"{first} says already where the certificate comes from; give one of them")
    if tls.mode not in TERMINATING:
        return
    if tls.credential_name or tls.credential_names:
        return
    if tls.mode != "SIMPLE" and not tls.ca_certificates:
        why = f"mode {tls.mode} checks the clients' certificates; give caCertificates or a credentialName"
        yield required(f"{path}.caCertificates", why)
    if tls.ca_crl and tls.mode == "SIMPLE":
        yield forbidden(f"{path}.caCrl", "mode SIMPLE asks clients for no certificate; use mode MUTUAL")
    pairs: list[tuple[str, ServerTLSSettings | TLSCertificate]] = [(path, tls)]
    if tls.tls_certificates:
        pairs = [(f"{path}.tlsCertificates[{position}]", pair) for position, pair in enumerate(tls.tls_certificates)]
    for where, pair in pairs:
        for name, value in (("serverCertificate", pair.server_certificate), ("privateKey", pair.private_key)):
            if not value:
                yield required(f"{where}.{name}", f"mode {tls.mode} needs it, or a credentialName")


def server_tls_warnings(path: str, tls: ServerTLSSettings) -> Faults:
    if tls.min_protocol_version in ("TLSV1_0", "TLSV1_1") and not tls.cipher_suites:
        why = "the default cipher suites do not serve versions below TLSV1_2; set cipherSuites as well"
        yield values.warning(f"{path}.minProtocolVersion", why)
    seen: set[str] = set()
    for position, suite in enumerate(tls.cipher_suites):
        if not known_cipher_suite(suite):
            yield values.warning(f"{path}.cipherSuites[{position}]", f'"{suite}" is not known and is ignored')
        elif suite in seen:
            yield values.warning(f"{path}.cipherSuites[{position}]", f'"{suite}" is repeated and is ignored')
        seen.add(suite)
    if tls.ca_crl and tls.credential_name and tls.mode in TERMINATING:
        yield values.warning(f"{path}.caCrl", "with credentialName the Secret's ca.crl counts, so that it is ignored")
    if tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH"):
        for name, value in _certificates(tls).items():
            if value:
                yield values.warning(f"{path}.{name}", f"mode {tls.mode} ends no TLS here, so that it is ignored")


def _certificates(tls: ServerTLSSettings) -> dict[str, object]:
    """Every field that says where certificates come from, with its value."""
    return {
        "serverCertificate": tls.server_certificate,
        "privateKey": tls.private_key,
        "caCertificates": tls.ca_certificates,
        "caCrl": tls.ca_crl,
        "tlsCertificates": tls.tls_certificates,
        "credentialName": tls.credential_name,
        "credentialNames": tls.credential_names,
    }
