"""Credentials out of Secrets: certificates with their keys, and roots, under the key names that Istio takes
(pilot/pkg/credentials/kube).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping

from pilotfish.api.core import ConfigMap, Secret
from pilotfish.mesh.records import Record, SecretKey

RESOURCE = "kubernetes://"
"""The prefix of the names under which proxies ask for Secrets."""

ROOTS = "-cacert"
"""The suffix of what stands for the roots of a Secret: a Secret of that name, or part of the one without it."""

CONFIG_MAP = "configmap://"
"""The prefix of what stands for the roots in a ConfigMap, "<namespace>/<name>" or "<name>"."""

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


Secrets = Callable[[SecretKey], Secret | ConfigMap | None]
"""Finds a Secret or ConfigMap."""


def resource_name(reference: str) -> str:
    """The name under which proxies ask for the credential that a `credentialName` names."""
    plain = reference.removeprefix(_EXTERNAL)
    return plain if plain.startswith((RESOURCE, CONFIG_MAP)) else RESOURCE + plain


def roots_name(reference: str) -> str:
    """The name under which proxies ask for the roots that a `credentialName` brings."""
    name = resource_name(reference)
    return name if name.endswith(ROOTS) else name + ROOTS


def secret_keys(resource: str, namespace: str) -> tuple[SecretKey, ...]:
    """What can hold what proxies of a namespace ask for by this name, the first before the others."""
    if resource.startswith(CONFIG_MAP):
        owner, slash, name = resource.removeprefix(CONFIG_MAP).removesuffix(ROOTS).partition("/")
        return (SecretKey(owner, name, "ConfigMap") if slash else SecretKey(namespace, owner, "ConfigMap"),)
    name = resource.removeprefix(RESOURCE)
    names = (name, name.removesuffix(ROOTS)) if name.endswith(ROOTS) else (name,)
    return tuple(SecretKey(namespace, name) for name in names)


def credential(resource: str, namespace: str, secrets: Secrets) -> Credential:
    """What a proxy of a namespace gets that asks for this name. Raises Unusable."""
    keys = secret_keys(resource, namespace)
    found = next((each for key in keys if (each := secrets(key)) is not None), None)
    if found is None:
        named = " or ".join(key.name for key in keys)
        raise Unusable(f"there is no {keys[0].kind} {named} (namespace {keys[0].namespace})")
    if isinstance(found, ConfigMap):
        return _roots_of_map(found)
    return _roots(found) if resource.endswith(ROOTS) else _key_pair(found)


def _roots_of_map(found: ConfigMap) -> Roots:
    for certificates, revoked in (("cacert", "crl"), ("ca.crt", "ca.crl")):
        if found.data.get(certificates):
            return Roots(found.data[certificates].encode(), found.data.get(revoked, "").encode())
    raise Unusable(f"ConfigMap {found.name} has neither ca.crt nor cacert (namespace {found.namespace})")


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
        raise Unusable(f"Secret {secret.name}: {key} is not base64: {error} (namespace {secret.namespace})") from None


def _lacking(secret: Secret, expected: Iterable[str]) -> Unusable:
    held = ", ".join(sorted(_present(secret.data))) or "nothing"
    lacking = f"Secret {secret.name} has neither {' nor '.join(expected)}; it has {held}"
    return Unusable(f"{lacking} (namespace {secret.namespace})")


def _present(data: Mapping[str, str]) -> Iterable[str]:
    return (key for key, value in data.items() if value)
