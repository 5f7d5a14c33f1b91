"""`proxy-config secrets` (istioctl/pkg/writer/compare/sds)."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from cryptography import x509

from pilotfish.cli.proxyconfig.dump import ConfigDump, Message
from pilotfish.cli.tables import Row

HEADER = ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"]
NOTHING = "No active or warming secrets found."
UNINITIALIZED = "uninitialized"


@dataclass(frozen=True)
class Certificate:
    """What is known of one certificate. Times are UTC."""

    is_authority: bool
    serial: str
    not_before: dt.datetime
    not_after: dt.datetime
    trust_domain: str = ""

    def valid(self, now: dt.datetime) -> bool:
        return self.not_before < now < self.not_after


@dataclass(frozen=True)
class Secret:
    """A secret that came by SDS; `certificate` is None where it has none, or it cannot be known."""

    name: str
    state: str
    certificate: Certificate | None


def secrets(dump: ConfigDump) -> list[Secret]:
    """Warming and active ones of a dump. Raises DumpError."""
    section = dump.section("SecretsConfigDump")
    found = [_secret(one, "WARMING") for one in section.get("dynamic_warming_secrets", ())]
    for one in section.get("dynamic_active_secrets", ()):
        state = UNINITIALIZED.upper() if one.get("version_info") == UNINITIALIZED else "ACTIVE"
        found.append(_secret(one, state))
    return found


def table(found: list[Secret], now: dt.datetime, *, named: bool = False) -> list[Row]:
    """`now` decides which are valid. Trust domains are shown where all certificates tell theirs."""
    prefix = "secret/" if named else ""
    federated = all(secret.certificate is not None and secret.certificate.trust_domain for secret in found)
    rows = [[*HEADER, *(["TRUST DOMAIN"] if federated else ())]]
    for secret in found:
        certificate = secret.certificate
        row = [f"{prefix}{secret.name}", "", secret.state, "false", "", "", ""]
        if certificate is not None:
            kind = "CA" if certificate.is_authority else "Cert Chain"
            valid = "true" if certificate.valid(now) else "false"
            times = [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (certificate.not_after, certificate.not_before)]
            row = [row[0], kind, secret.state, valid, certificate.serial, *times]
        rows.append([*row, *([certificate.trust_domain] if certificate is not None and federated else ())])
    return rows


def _secret(message: Message, state: str) -> Secret:
    body = message.get("secret", {})
    chain = body.get("tls_certificate", {}).get("certificate_chain", {})
    roots = body.get("validation_context", {}).get("trusted_ca", {})
    source = chain or roots
    certificate = None
    if "inline_bytes" in source:
        certificate = _read(base64.b64decode(source["inline_bytes"]))
    elif "inline_string" in source:
        certificate = _read(source["inline_string"].encode())
    return Secret(str(message.get("name", "")), state, certificate)


def _read(pem: bytes) -> Certificate | None:
    """The first certificate of a PEM text; None where that is none."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        return None
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        authority = constraints.ca
    except x509.ExtensionNotFound:
        authority = False
    return Certificate(
        authority,
        f"{certificate.serial_number:032x}",
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        _trust_domain(_uris(certificate)),
    )


def _uris(certificate: x509.Certificate) -> Iterator[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    yield from names.get_values_for_type(x509.UniformResourceIdentifier)


def _trust_domain(uris: Iterator[str]) -> str:
    return next((parts.netloc for uri in uris if (parts := urlsplit(uri)).scheme == "spiffe"), "")
