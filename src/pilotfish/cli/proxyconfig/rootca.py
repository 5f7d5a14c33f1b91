"""`proxy-config rootca-compare`: whether two proxies trust a root in common (istioctl/pkg/proxyconfig)."""

from __future__ import annotations

import base64

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pilotfish.api.proxy_files import ROOT_SECRET
from pilotfish.cli.proxyconfig.dump import ConfigDump, DumpError


def roots(dump: ConfigDump) -> frozenset[bytes]:
    """The certificates that a proxy trusts in the mesh, as DER. Raises DumpError where it has none."""
    active = dump.section("SecretsConfigDump").get("dynamic_active_secrets", ())
    for one in active:
        if one.get("name") == ROOT_SECRET:
            trusted = one.get("secret", {}).get("validation_context", {}).get("trusted_ca", {})
            pem = base64.b64decode(trusted.get("inline_bytes", "")) or trusted.get("inline_string", "").encode()
            return frozenset(_certificates(pem))
    raise DumpError(f"the configuration dump has no secret {ROOT_SECRET}")


def comparison(one: str, other: str, *, common: bool) -> str:
    """istioctl's verdict, word by word; `one` and `other` are full names of pods."""
    if common:
        return (
            f"Both [{one}] and [{other}] have the identical ROOTCA, "
            "theoretically the connectivity between them is available"
        )
    return (
        f"Both [{one}] and [{other}] have the non identical ROOTCA, "
        "theoretically the connectivity between them is unavailable"
    )


def _certificates(pem: bytes) -> list[bytes]:
    try:
        return [found.public_bytes(Encoding.DER) for found in x509.load_pem_x509_certificates(pem)]
    except ValueError as error:
        raise DumpError(f"the secret {ROOT_SECRET} holds no certificate: {error}") from error
