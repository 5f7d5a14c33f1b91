"""The mesh's certificate authority: one ECDSA P-256 root that signs everything.

Server and client certificates of our own processes live a year and are renewed at `pilotfish up`; workload certificates
live a day (Istio: DEFAULT_WORKLOAD_CERT_TTL) and are renewed by whoever holds them.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pilotfish.pki.files import Files, KeyPair, create, replace
from pilotfish.pki.identity import Identity

ROOT_LIFETIME = dt.timedelta(days=3650)
LIFETIME = dt.timedelta(days=365)
WORKLOAD_LIFETIME = dt.timedelta(hours=24)
RENEW_BEFORE = dt.timedelta(days=30)
"""How long before its end a root or a year-long certificate is replaced."""
BACKDATED = dt.timedelta(minutes=2)
"""Certificates are valid from a little earlier than now, for machines whose clocks are behind (Istio does the same)."""

SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class SubjectNames:
    """Subject alternative names: what a certificate's holder may be called."""

    dns: frozenset[str] = frozenset()
    ips: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()

    @staticmethod
    def of(*, dns: Iterable[str] = (), ips: Iterable[str] = (), uris: Iterable[str] = ()) -> SubjectNames:
        return SubjectNames(frozenset(dns), frozenset(str(ipaddress.ip_address(ip)) for ip in ips), frozenset(uris))

    @staticmethod
    def within(certificate: x509.Certificate | x509.CertificateSigningRequest) -> SubjectNames:
        """Those that a certificate or a request carries."""
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return SubjectNames()
        return SubjectNames(
            frozenset(names.get_values_for_type(x509.DNSName)),
            frozenset(str(ip) for ip in names.get_values_for_type(x509.IPAddress)),
            frozenset(names.get_values_for_type(x509.UniformResourceIdentifier)),
        )

    def extension(self) -> x509.SubjectAlternativeName:
        return x509.SubjectAlternativeName(
            [x509.DNSName(name) for name in sorted(self.dns)]
            + [x509.IPAddress(ipaddress.ip_address(ip)) for ip in sorted(self.ips)]
            + [x509.UniformResourceIdentifier(uri) for uri in sorted(self.uris)]
        )


@dataclass(frozen=True)
class Authority:
    """The root certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @staticmethod
    def at(files: Files, *, name: str = "pilotfish", now: dt.datetime | None = None) -> Authority:
        """The authority kept in `files`, made when there is none; its certificate is renewed, its key never changes.

        Processes that start at once agree: the first to write wins. Raises ValueError when the files cannot be read
        as what they should be.
        """
        at = now or utc_now()
        pem = create(files.ca_key, _private_pem(ec.generate_private_key(ec.SECP256R1())))
        key = serialization.load_pem_private_key(pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{files.ca_key} is not an ECDSA key: put the one back that signed {files.ca}")
        own = key.public_key()
        certificate = x509.load_pem_x509_certificate(create(files.ca, _pem(_self_signed(key, name, at))))
        if certificate.public_key() != own:
            raise ValueError(f"{files.ca} does not belong to {files.ca_key}: put the pair back together")
        if certificate.not_valid_after_utc < at + RENEW_BEFORE:
            certificate = _self_signed(key, name, at)
            replace(files.ca, _pem(certificate))
        return Authority(certificate, key)

    @property
    def pem(self) -> bytes:
        """The root certificate, PEM."""
        return _pem(self.certificate)

    def issue_server(self, common_name: str, names: SubjectNames, *, now: dt.datetime | None = None) -> KeyPair:
        """A certificate with which to serve TLS under these names, for a year."""
        return self._issue(_subject(common_name), names, SERVER, now or utc_now())

    def issue_client(
        self,
        common_name: str,
        organisation: str = "",
        names: SubjectNames | None = None,
        *,
        now: dt.datetime | None = None,
    ) -> KeyPair:
        """A client certificate for a year. Kubernetes reads CN as the user and O as the group."""
        return self._issue(_subject(common_name, organisation), names or SubjectNames(), CLIENT, now or utc_now())

    def sign_workload(
        self,
        request: bytes,
        identity: Identity,
        lifetime: dt.timedelta | None = None,
        *,
        now: dt.datetime | None = None,
    ) -> bytes:
        """A certificate chain (PEM, leaf first, root last) for the key of a signing request, naming `identity` alone.

        Who may have that identity is the caller's to decide; the request's own subject is ignored, and names that it
        asks for must be the identity's. `lifetime` is capped at a day. Raises ValueError when the request is refused.
        """
        at = now or utc_now()
        csr = _checked_request(request, identity)
        wanted = min(lifetime or WORKLOAD_LIFETIME, WORKLOAD_LIFETIME)
        leaf = self._sign(
            _subject(), csr.public_key(), SubjectNames.of(uris=[str(identity)]), (*SERVER, *CLIENT), at, wanted
        )
        return _pem(leaf) + self.pem

    def _issue(
        self, subject: x509.Name, names: SubjectNames, usages: tuple[x509.ObjectIdentifier, ...], at: dt.datetime
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        return KeyPair(_pem(self._sign(subject, key.public_key(), names, usages, at, LIFETIME)), _private_pem(key))

    def _sign(
        self,
        subject: x509.Name,
        public_key: CertificatePublicKeyTypes,
        names: SubjectNames,
        usages: tuple[x509.ObjectIdentifier, ...],
        at: dt.datetime,
        lifetime: dt.timedelta,
    ) -> x509.Certificate:
        builder = _dated(x509.CertificateBuilder(), at, min(at + lifetime, self.certificate.not_valid_after_utc))
        builder = builder.subject_name(subject).issuer_name(self.certificate.subject).public_key(public_key)
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if names != SubjectNames():
            # RFC 5280, 4.2.1.6: critical where the subject is empty.
            builder = builder.add_extension(names.extension(), critical=not len(subject))
        return builder.sign(self.key, hashes.SHA256())


def needs_renewal(pair: KeyPair, authority: Authority, names: SubjectNames, now: dt.datetime) -> bool:
    """Whether a pair has to be issued again: it ends soon, bears other names, another authority signed it."""
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        key = serialization.load_pem_private_key(pair.key, None)
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return True
    return (
        certificate.not_valid_after_utc < now + RENEW_BEFORE
        or SubjectNames.within(certificate) != names
        or certificate.public_key() != key.public_key()
    )


def _checked_request(request: bytes, identity: Identity) -> x509.CertificateSigningRequest:
    try:
        csr = x509.load_pem_x509_csr(request)
    except ValueError as error:
        raise ValueError(f"the certificate signing request is not PEM-encoded PKCS #10: {error}") from error
    if not csr.is_signature_valid:
        raise ValueError("the certificate signing request is not signed by its own key")
    key = csr.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            raise ValueError(f"an RSA key of {key.key_size} bits is too short: use 2048 or more, or ECDSA P-256")
    elif not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise ValueError("the certificate signing request has a key that is neither ECDSA, Ed25519 nor RSA")
    asked, granted = SubjectNames.within(csr), SubjectNames.of(uris=[str(identity)])
    if asked not in (SubjectNames(), granted):
        others = ", ".join(sorted((asked.dns | asked.ips | asked.uris) - granted.uris)) or "none"
        raise ValueError(f"the certificate signing request asks for {others}; only {identity} can be certified")
    return csr


def _self_signed(key: ec.EllipticCurvePrivateKey, name: str, at: dt.datetime) -> x509.Certificate:
    subject = _subject(f"{name} root", name)
    builder = _dated(x509.CertificateBuilder(), at, at + ROOT_LIFETIME)
    return (
        builder.subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _dated(builder: x509.CertificateBuilder, at: dt.datetime, end: dt.datetime) -> x509.CertificateBuilder:
    return builder.serial_number(x509.random_serial_number()).not_valid_before(at - BACKDATED).not_valid_after(end)


def _subject(common_name: str = "", organisation: str = "") -> x509.Name:
    parts = [(NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, common_name)]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
