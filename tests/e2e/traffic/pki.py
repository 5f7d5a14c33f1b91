"""Certificates of the applications' own (not the mesh's): a server's, and a client's, of one authority."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SERVER_NAMES = ("server.test", "*.server.test", "other.test")
CLIENT_URI = "spiffe://test/client"


def write(folder: Path) -> None:
    """ca.pem, server.pem, server-key.pem, client.pem, client-key.pem; and other-ca.pem, which signed none of them."""
    folder.mkdir(exist_ok=True)
    key, ca = _authority("traffic tests")
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    _, other = _authority("another authority")
    (folder / "other-ca.pem").write_bytes(other.public_bytes(serialization.Encoding.PEM))
    _write(folder, "server", [x509.DNSName(name) for name in SERVER_NAMES], key, ca)
    _write(folder, "client", [x509.UniformResourceIdentifier(CLIENT_URI)], key, ca)


def _authority(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = _builder(subject, subject, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return key, builder.sign(key, hashes.SHA256())


def _write(
    folder: Path, name: str, names: Sequence[x509.GeneralName], ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_subject(name), ca.subject, key.public_key())
    certificate = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(
        ca_key, hashes.SHA256()
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}-key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


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
