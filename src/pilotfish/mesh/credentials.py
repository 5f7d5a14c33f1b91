"""Credentials out of Secrets: certificates with their keys, and roots, under the key names that Istio takes
(pilot/pkg/credentials/kube).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping

from pilotfish.api.core import Secret
from pilotfish.mesh.records import Record

RESOURCE = "kubernetes://"
"""The prefix of the names under which proxies ask for Secrets."""

ROOTS = "-cacert"
"""The suffix of what stands for the roots of a Secret: a Secret of that name, or part of the one without it."""

_EXTERNAL = "sds://"


class KeyPair(Record):
    """A certificate with what chains it to its root, its key, and the OCSP response that goes with it, or b""."""

    certificate: bytes
    key: bytes
    staple: bytes = b""

    def __repr__(self) -> str:
        return "KeyPair(…)"  # keys do not belong into logs


class Roots(Record):
    """Certificates that others are checked against, and what was revoked of these, or b""."""

    certificates: bytes
    revoked: bytes = b""


Credential = KeyPair | Roots


class Unusable(Exception):
    """A Secret lacks what it is named for; the text says what."""


Secrets = Callable[[str], Secret | None]
"""Finds a Secret of one namespace by its name."""


def resource_name(reference: str) -> str:
    """The name under which proxies ask for the credential that a `credentialName` names."""
    plain = reference.removeprefix(_EXTERNAL)
    return plain if plain.startswith(RESOURCE) else RESOURCE + plain


def roots_name(reference: str) -> str:
    """The name under which proxies ask for the roots that a `credentialName` brings."""
    name = resource_name(reference)
    return name if name.endswith(ROOTS) else name + ROOTS


def secret_names(resource: str) -> tuple[str, ...]:
    """The Secrets that can hold what proxies ask for by this name, the first before the others."""
    name = resource.removeprefix(RESOURCE)
    return (name, name.removesuffix(ROOTS)) if name.endswith(ROOTS) else (name,)


def credential(resource: str, secrets: Secrets) -> Credential:
    """What a proxy gets that asks for this name. Raises Unusable."""
    names = secret_names(resource)
    secret = next((found for name in names if (found := secrets(name)) is not None), None)
    if secret is None:
        raise Unusable(f"there is no Secret {' or '.join(names)}")
    return _roots(secret) if resource.endswith(ROOTS) else _key_pair(secret)


def _key_pair(secret: Secret) -> KeyPair:
    for certificate, key, staple in (("cert", "key", ""), ("tls.crt", "tls.key", "tls.ocsp-staple")):
        if secret.data.get(certificate) and secret.data.get(key):
            return KeyPair(_value(secret, certificate), _value(secret, key), _value(secret, staple))
    raise _lacking(secret, ("tls.crt and tls.key", "cert and key"))


def _roots(secret: Secret) -> Roots:
    for certificates, revoked in (("cacert", "crl"), ("ca.crt", "ca.crl")):
        if secret.data.get(certificates):
            return Roots(_value(secret, certificates), _value(secret, revoked))
    raise _lacking(secret, ("ca.crt", "cacert"))


def _value(secret: Secret, key: str) -> bytes:
    try:
        return base64.b64decode(secret.data.get(key, ""), validate=True)
    except binascii.Error as error:
        raise Unusable(f"Secret {secret.name}: {key} is not base64: {error}") from None


def _lacking(secret: Secret, expected: Iterable[str]) -> Unusable:
    held = ", ".join(sorted(_present(secret.data))) or "nothing"
    return Unusable(f"Secret {secret.name} has neither {' nor '.join(expected)}; it has {held}")


def _present(data: Mapping[str, str]) -> Iterable[str]:
    return (key for key, value in data.items() if value)
