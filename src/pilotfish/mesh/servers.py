"""What gateways serve: a record for each port that some configuration opens, whatever kind of object opened it."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from pilotfish.mesh.hostnames import matches
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Age, ObjectKey, Record

ANYONE = "*"
TLS_VERSIONS = {"TLSV1_0": "TLSv1_0", "TLSV1_1": "TLSv1_1", "TLSV1_2": "TLSv1_2", "TLSV1_3": "TLSv1_3"}
"""Envoy's words for protocol versions, by Istio's."""


class Tls(enum.StrEnum):
    """What a server does with TLS: nothing, end it, pass it on by its server name to where routes say, or (AUTO) to the
    cluster that the server name is.
    """

    NONE = "none"
    TERMINATE = "terminate"
    PASSTHROUGH = "passthrough"
    AUTO_PASSTHROUGH = "auto-passthrough"


class ClientCheck(enum.StrEnum):
    """Whether clients must show a certificate."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class CertificateFiles(Record):
    """Paths in the proxy's pod."""

    certificate: str
    key: str


class Termination(Record):
    """How a proxy ends TLS.

    Its certificates are those of Secrets (`credentials`), of `files`, or (`workload`) the proxy's own of the
    mesh. Clients' certificates are checked against the roots of a Secret (`root_credential`), of the file `roots`, or
    of the mesh; where there are `subject_names` or `trust_domains`, they must bear one of the names, or an identity of
    one of the domains. Protocol versions are Envoy's words ("TLSv1_2"), "" means its default; `cipher_suites` likewise.
    """

    credentials: tuple[str, ...] = ()
    files: tuple[CertificateFiles, ...] = ()
    workload: bool = False
    client: ClientCheck = ClientCheck.NONE
    root_credential: str = ""
    roots: str = ""
    revoked: str = ""
    subject_names: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    key_hashes: tuple[str, ...] = ()
    certificate_hashes: tuple[str, ...] = ()
    accept_untrusted: bool = False
    min_version: str = ""
    max_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()


class TlsDefaults(Record):
    """What servers with certificates of their own offer that do not say it (MeshConfig: tlsDefaults)."""

    min_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()

    def applied(self, termination: Termination) -> Termination:
        """The termination with what it does not say."""
        if termination.workload:
            return termination
        return msgspec.structs.replace(
            termination,
            min_version=termination.min_version or self.min_version,
            cipher_suites=termination.cipher_suites or self.cipher_suites,
            curves=self.curves,
        )


class ServerHost(Record):
    """A host name or wildcard that a server is for, in lower case; `namespace` is whose routes may bind to it, or
    ANYONE.
    """

    namespace: str
    hostname: str


class Server(Record):
    """One port of one gateway as one object opens it.

    `gateway` ("<namespace>/<name>") is what routes name to be bound to it. `position` is the server's place in its
    object. `port` is the one that clients know: where a Service of the gateway has it, the gateway listens on the
    Service's target port. `bind` is the address to listen on, "" for any. `label` is the server's own name, or "".
    """

    source: ObjectKey
    created: str
    position: int
    port: int
    port_name: str
    protocol: Protocol
    hosts: tuple[ServerHost, ...]
    bind: str = ""
    label: str = ""
    tls: Tls = Tls.NONE
    termination: Termination | None = None
    https_redirect: bool = False

    @property
    def gateway(self) -> str:
        return f"{self.source.namespace}/{self.source.name}"

    @property
    def age(self) -> Age:
        return self.created, self.source.namespace, self.source.name, f"{self.position:04}"

    @property
    def is_http(self) -> bool:
        """Whether requests are routed and not bytes: plain HTTP, or HTTPS that ends here."""
        return self.protocol.is_http or (self.protocol is Protocol.HTTPS and self.tls is Tls.TERMINATE)

    @property
    def hostnames(self) -> tuple[str, ...]:
        """The names in order, each once."""
        return tuple(sorted({host.hostname for host in self.hosts}))

    def serves(self, namespace: str, hostname: str) -> Iterable[str]:
        """The names of this server under which a route of a namespace for a host name or wildcard is reached: of the
        two names, where one covers the other, the narrower (Istio: the intersection of hosts).
        """
        for host in self.hosts:
            if host.namespace in (ANYONE, namespace):
                if matches(hostname, host.hostname):
                    yield hostname
                elif matches(host.hostname, hostname):
                    yield host.hostname
