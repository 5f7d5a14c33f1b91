"""Application protocols, and how Istio selects one for a port (its "protocol selection" page)."""

from __future__ import annotations

import enum


class Protocol(enum.StrEnum):
    """What a port speaks, in Istio's spelling. AUTO: nothing says it, so the proxy looks at the first bytes."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-Web"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"
    UDP = "UDP"
    MONGO = "Mongo"
    MYSQL = "MySQL"
    REDIS = "Redis"
    AUTO = "UnsupportedProtocol"

    @property
    def is_http(self) -> bool:
        """Plain HTTP of any version."""
        return self in _HTTP

    @property
    def is_http2(self) -> bool:
        """HTTP that must travel as HTTP/2."""
        return self in _HTTP2

    @property
    def is_grpc(self) -> bool:
        return self in (Protocol.GRPC, Protocol.GRPC_WEB)

    @property
    def is_tls(self) -> bool:
        """TLS that the application starts itself, so that the proxy sees only its server name."""
        return self in (Protocol.HTTPS, Protocol.TLS)

    @property
    def decrypted(self) -> Protocol:
        """What is within the TLS (Istio: AfterTLSTermination)."""
        return {Protocol.HTTPS: Protocol.HTTP, Protocol.TLS: Protocol.TCP}.get(self, self)

    @property
    def is_tcp(self) -> bool:
        """Bytes that the proxy passes on without parsing them."""
        return self in _TCP

    @property
    def is_opaque(self) -> bool:
        """Bytes of which nothing is known, not even who speaks first."""
        return self.is_tcp and not self.is_tls

    @property
    def server_first(self) -> bool:
        """The server speaks first, so waiting for the client's first bytes would wait forever."""
        return self in (Protocol.MONGO, Protocol.MYSQL)


_HTTP2 = frozenset({Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB})
_HTTP = _HTTP2 | {Protocol.HTTP}
_TCP = frozenset({Protocol.TCP, Protocol.HTTPS, Protocol.TLS, Protocol.MONGO, Protocol.MYSQL, Protocol.REDIS})
_BY_WORD = {p.value.lower(): p for p in Protocol if p is not Protocol.AUTO}
_KUBERNETES_WORDS = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}
_NEVER_SNIFFED = frozenset({25, 53, 3306, 27017})  # SMTP, DNS, MySQL, MongoDB: the server speaks first


def parse(word: str) -> Protocol:
    """The protocol of a ServiceEntry's `protocol`, case ignored; AUTO when it names none."""
    return _BY_WORD.get(word.lower(), Protocol.AUTO)


def select(port: int, name: str, transport: str, app_protocol: str) -> Protocol:
    """The protocol of a Kubernetes service port: `appProtocol` first, else the port name up to its first hyphen."""
    if transport == "UDP":
        return Protocol.UDP
    if app_protocol in _KUBERNETES_WORDS:
        return _KUBERNETES_WORDS[app_protocol]
    word = app_protocol or name
    if word.lower().startswith("grpc-web"):
        return Protocol.GRPC_WEB
    found = parse(word.partition("-")[0])
    return Protocol.TCP if found is Protocol.AUTO and port in _NEVER_SNIFFED else found
