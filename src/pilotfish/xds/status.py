"""What is known of each connected proxy: what it was sent, what it acknowledged, what it refused and why."""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from pilotfish.xds.source import ProxyNode

log = logging.getLogger("pilotfish.xds")

Versions = Mapping[str, str | None]
"""Resource name → version; None means that the proxy was told that there is no such resource."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A NACK. `names` are the resources that the proxy's words name, or all of the response where they name none."""

    type_url: str
    names: tuple[str, ...]
    message: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class ResourceState:
    """One resource as one proxy has it (the words are those of Envoy's CSDS).

    `version` is what was last sent; `accepted` what the proxy last acknowledged, None where it has none.
    """

    name: str
    version: str | None
    accepted: str | None
    state: Literal["ACKED", "SENT", "NACKED"]
    message: str = ""


@dataclass(frozen=True, slots=True)
class TypeState:
    """One type on one stream. `waiting` counts changes that wait until the proxy has answered the last response."""

    type_url: str
    wildcard: bool
    nonce_sent: str
    nonce_acked: str
    sent_at: dt.datetime | None
    answered_at: dt.datetime | None
    waiting: int
    resources: tuple[ResourceState, ...]
    rejection: Rejection | None

    @property
    def synced(self) -> bool:
        """Whether the proxy has accepted everything that there is for it."""
        return self.nonce_sent == self.nonce_acked and not self.waiting and self.rejection is None


@dataclass(frozen=True, slots=True)
class ProxyState:
    """One connected proxy, and all types that it subscribes to."""

    node: ProxyNode
    peer: str
    connected_at: dt.datetime
    types: Mapping[str, TypeState] = field(default_factory=dict)


class Progress(NamedTuple):
    """How often a proxy's stream has had word of changes, and up to which of these it has answered for all of them."""

    node: ProxyNode
    connected_at: dt.datetime
    told: int
    answered: int


class Observer(Protocol):
    """Who wants to know. Called on the event loop, from within the stream's own handling: return quickly."""

    def connected(self, node: ProxyNode) -> None: ...

    def disconnected(self, node: ProxyNode) -> None: ...

    def acknowledged(self, node: ProxyNode, type_url: str, versions: Versions) -> None:
        """The proxy has put these into force."""
        ...

    def rejected(self, node: ProxyNode, rejection: Rejection) -> None:
        """The proxy refused a response and goes on with what it accepted before."""
        ...


class Log:
    """The observer that writes rejections to the log and nothing else."""

    def connected(self, node: ProxyNode) -> None: ...

    def disconnected(self, node: ProxyNode) -> None: ...

    def acknowledged(self, node: ProxyNode, type_url: str, versions: Versions) -> None: ...

    def rejected(self, node: ProxyNode, rejection: Rejection) -> None:
        kind = rejection.type_url.rpartition(".")[2]
        log.warning("%s refused %s %s: %s", node.id, kind, ", ".join(rejection.names), rejection.message)


def named_in(message: str, names: Collection[str]) -> tuple[str, ...]:
    """Which of the names a proxy's error message speaks of, e.g. "Error adding/updating listener(s) web: …"."""
    bounded = r"(?<![^\s'\"(,]){}(?![^\s'\"),:;])"
    return tuple(
        sorted(name for name in names if name in message and re.search(bounded.format(re.escape(name)), message))
    )
