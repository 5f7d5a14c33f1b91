"""A configuration source that tests fill by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from pilotfish.xds.source import Changes, ProxyNode, Resource


@dataclass
class FakeSource:
    """Every proxy gets the same resources. `set` and `remove` tell of one change each; `update` of several at once."""

    held: dict[str, dict[str, Resource]] = field(default_factory=dict)
    configs: list[FakeConfig] = field(default_factory=list)

    def connect(self, node: ProxyNode, on_change: Callable[[Changes], None]) -> FakeConfig:
        config = FakeConfig(self, node, on_change)
        self.configs.append(config)
        return config

    def update(self, *resources: tuple[str, Resource], removed: tuple[tuple[str, str], ...] = ()) -> None:
        changes: dict[str, frozenset[str]] = {}
        for type_url, resource in resources:
            self.held.setdefault(type_url, {})[resource.name] = resource
            changes[type_url] = changes.get(type_url, frozenset()) | {resource.name}
        for type_url, name in removed:
            del self.held[type_url][name]
            changes[type_url] = changes.get(type_url, frozenset()) | {name}
        for config in tuple(self.configs):
            config.on_change(changes)

    def set(self, type_url: str, *resources: Resource) -> None:
        self.update(*((type_url, resource) for resource in resources))

    def remove(self, type_url: str, *names: str) -> None:
        self.update(removed=tuple((type_url, name) for name in names))


@dataclass(eq=False)
class FakeConfig:
    source: FakeSource
    node: ProxyNode
    on_change: Callable[[Changes], None]

    def resources(self, type_url: str) -> Mapping[str, Resource]:
        return self.source.held.get(type_url, {})

    def asked(self, *_: object) -> None: ...

    def answered(self, held: object) -> None: ...

    def close(self) -> None:
        self.source.configs.remove(self)


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()
