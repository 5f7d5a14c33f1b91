"""The mesh's own mutual TLS: who speaks it, in which trust domains, and what proxies take of their clients."""

from __future__ import annotations

import enum

from pilotfish.mesh.meshconfig import MeshConfig
from pilotfish.mesh.records import Record
from pilotfish.mesh.servers import TLS_VERSIONS

SPIFFE = "spiffe://"


class MtlsMode(enum.StrEnum):
    """What a proxy takes of those who call its workload, in the words of Istio's PeerAuthentication: mutual TLS and
    anything else beside it, nothing but mutual TLS, or no such thing.
    """

    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"
    DISABLE = "DISABLE"


class MutualTlsSettings(Record):
    """What MeshConfig says of it. `auto`: clients speak it with whoever takes it, where no DestinationRule says
    otherwise. `aliases` are trust domains whose identities are taken for the same as those of `trust_domain`.

    `min_version` (Envoy's word) and `cipher_suites` are those of servers; empty for what Istio offers.
    """

    auto: bool = True
    trust_domain: str = "cluster.local"
    aliases: tuple[str, ...] = ()
    min_version: str = "TLSv1_2"
    cipher_suites: tuple[str, ...] = ()

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """All whose certificates a server believes, each once."""
        return tuple(dict.fromkeys((self.trust_domain, *self.aliases)))

    def identity(self, namespace: str, account: str) -> str:
        """What the certificate of a service account says: a SPIFFE URI."""
        return f"{SPIFFE}{self.trust_domain}/ns/{namespace}/sa/{account}"

    def in_all_domains(self, identities: frozenset[str]) -> tuple[str, ...]:
        """Identities with the same of every alias, in order (Istio: ExpandWithTrustDomains)."""
        found = set(identities)
        for identity in identities:
            domain, slash, rest = identity.removeprefix(SPIFFE).partition("/")
            if domain and slash and identity.startswith(SPIFFE):
                found.update(f"{SPIFFE}{alias}/{rest}" for alias in self.aliases)
        return tuple(sorted(found))


def mutual_tls_settings(mesh: MeshConfig) -> MutualTlsSettings:
    """What MeshConfig says."""
    return MutualTlsSettings(
        auto=mesh.enable_auto_mtls,
        trust_domain=mesh.trust_domain,
        aliases=mesh.trust_domain_aliases,
        min_version=TLS_VERSIONS.get(mesh.mesh_mtls.min_protocol_version, "TLSv1_2"),
        cipher_suites=mesh.mesh_mtls.cipher_suites,
    )
