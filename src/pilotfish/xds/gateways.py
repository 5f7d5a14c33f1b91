"""All gateways together: their parts, the Secrets that they need, and what they cannot serve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pilotfish.mesh.model import Model, Touched
from pilotfish.mesh.records import ObjectKey, SecretKey
from pilotfish.xds.gateway import Gateway, GatewayGroup


class Gateways:
    """A part for each group of gateways that has a member; `look` says what became of them all."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._parts: dict[GatewayGroup, Gateway] = {}
        self._unserved: dict[ObjectKey, str] = {}
        self.secrets: frozenset[SecretKey] = frozenset()
        """The Secrets that proxies need, which are to be applied to the model as they change."""
        self.on_secrets: Callable[[frozenset[SecretKey]], None] = lambda _: None
        """Called with `secrets` when it is not what it was."""
        self.on_unserved: Callable[[ObjectKey, str | None], None] = lambda *_: None
        """Called with an object and what gateways cannot serve of it, or None once they can."""

    def __iter__(self) -> Iterator[Gateway]:
        return iter(self._parts.values())

    def part(self, group: GatewayGroup) -> Gateway:
        """The part of a group, made when it is first asked for."""
        if group not in self._parts:
            self._parts[group] = Gateway(group, self._model)
        return self._parts[group]

    def discard(self, part: Gateway) -> None:
        """No gateway has it any more."""
        del self._parts[part.group]

    def update(self, touched: Touched) -> list[Gateway]:
        """Have all parts look again at what changed; gives them."""
        for part in self:
            part.update(touched)
        return list(self)

    def look(self, also: Iterable[SecretKey] = ()) -> None:
        """Tell what gateways need and cannot serve, where it is not what it was; others need Secrets `also`."""
        secrets = frozenset((*also, *(key for part in self for key in part.secrets.wanted)))
        if secrets != self.secrets:
            self.secrets = secrets
            self.on_secrets(secrets)
        before, self._unserved = self._unserved, self._reasons()
        for key in before.keys() | self._unserved.keys():
            if before.get(key) != self._unserved.get(key):
                self.on_unserved(key, self._unserved.get(key))

    def _reasons(self) -> dict[ObjectKey, str]:
        found: dict[ObjectKey, dict[str, None]] = {}  # each reason once, whoever has it
        for part in self:
            for server, reason in part.problems():
                found.setdefault(server.source, {})[f"servers[{server.position}]: {reason}"] = None
        return {key: "; ".join(reasons) for key, reasons in found.items()}
