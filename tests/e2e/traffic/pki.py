"""Certificates of the applications' own (not the mesh's): a server's, and a client's, of one authority."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SERVER_NAMES = ("server.test", "*.server.test", "other.test")
CLIENT_URI = "spiffe://test/client"


def write(folder: Path) -> None:
    """ca.pem, server.pem, server-key.pem, client.pem, client-key.pem; other-ca.pem, which signed none of them; and what
    ca.pem has revoked: nothing in revoked-none.pem, the client in revoked-client.pem.
    """
    folder.mkdir(exist_ok=True)
    key, ca = _authority("traffic tests")
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    _, other = _authority("another authority")
    (folder / "other-ca.pem").write_bytes(other.public_bytes(serialization.Encoding.PEM))
    _write(folder, "server", [x509.DNSName(name) for name in SERVER_NAMES], key, ca)
    client = _write(folder, "client", [x509.UniformResourceIdentifier(CLIENT_URI)], key, ca)
    (folder / "revoked-none.pem").write_bytes(_revoked([], key, ca))
    (folder / "revoked-client.pem").write_bytes(_revoked([client.serial_number], key, ca))


def _authority(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = _builder(subject, subject, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return key, builder.sign(key, hashes.SHA256())


def _write(
    folder: Path, name: str, names: Sequence[x509.GeneralName], ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate
) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_subject(name), ca.subject, key.public_key())
    certificate = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(
        ca_key, hashes.SHA256()
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}-key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate


def _revoked(serials: Sequence[int], key: ec.EllipticCurvePrivateKey, ca: x509.Certificate) -> bytes:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject)
    builder = builder.last_update(now - dt.timedelta(hours=1)).next_update(now + dt.timedelta(days=2))
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - dt.timedelta(hours=1))
        builder = builder.add_revoked_certificate(revoked.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def hashes_of(certificate: Path) -> tuple[str, str]:
    """The SHA-256 of a certificate in hexadecimal, and of its public key in base64, as Istio's Gateways have them."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    public = found.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found.fingerprint(hashes.SHA256()).hex(), base64.b64encode(hashlib.sha256(public).digest()).decode()


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=2))
    )
