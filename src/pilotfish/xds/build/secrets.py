"""Secrets, as proxies get them: certificates with keys, and roots, out of Kubernetes Secrets or files of the pod."""

from __future__ import annotations

import posixpath
from typing import ClassVar

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2

from pilotfish.mesh.credentials import Credential, KeyPair
from pilotfish.mesh.records import Record
from pilotfish.xds import source
from pilotfish.xds.entries import serialise


class SecretSpec(Record):
    """A credential under the name by which proxies ask for it, "kubernetes://<Secret>"."""

    type_url: ClassVar[str] = source.SECRET

    name: str
    credential: Credential

    def body(self) -> bytes:
        return serialise(_secret(self.name, self.credential))


class CertificateFileSpec(Record):
    """Files in the pod with a certificate and its key, which Envoy reads again when they change."""

    type_url: ClassVar[str] = source.SECRET

    certificate: str
    key: str

    @property
    def name(self) -> str:
        """Istio's name for what its agent makes of such files."""
        return f"file-cert:{self.certificate}~{self.key}"

    def body(self) -> bytes:
        certificate = common_pb2.TlsCertificate(
            certificate_chain=base_pb2.DataSource(filename=self.certificate),
            private_key=base_pb2.DataSource(filename=self.key),
            watched_directory=_directory_of(self.certificate),
        )
        return serialise(secret_pb2.Secret(name=self.name, tls_certificate=certificate))


class RootFileSpec(Record):
    """A file in the pod with certificates that others are checked against."""

    type_url: ClassVar[str] = source.SECRET

    path: str

    @property
    def name(self) -> str:
        return f"file-root:{self.path}"

    def body(self) -> bytes:
        roots = common_pb2.CertificateValidationContext(
            trusted_ca=base_pb2.DataSource(filename=self.path), watched_directory=_directory_of(self.path)
        )
        return serialise(secret_pb2.Secret(name=self.name, validation_context=roots))


def _directory_of(path: str) -> base_pb2.WatchedDirectory:
    """What changes when a mounted Secret does: its files are links that are exchanged together."""
    return base_pb2.WatchedDirectory(path=posixpath.dirname(path) or "/")


def _secret(name: str, credential: Credential) -> secret_pb2.Secret:
    if isinstance(credential, KeyPair):
        certificate = common_pb2.TlsCertificate(
            certificate_chain=base_pb2.DataSource(inline_bytes=credential.certificate),
            private_key=base_pb2.DataSource(inline_bytes=credential.key),
        )
        if credential.staple:
            certificate.ocsp_staple.inline_bytes = credential.staple
        return secret_pb2.Secret(name=name, tls_certificate=certificate)
    roots = common_pb2.CertificateValidationContext(
        trusted_ca=base_pb2.DataSource(inline_bytes=credential.certificates)
    )
    if credential.revoked:
        roots.crl.inline_bytes = credential.revoked
    return secret_pb2.Secret(name=name, validation_context=roots)
