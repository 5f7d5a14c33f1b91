"""Whatever happens in whatever order: once all is said, the proxy holds what the source has for it."""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.xds.delta import DELTA
from pilotfish.xds.session import HOLD, Session
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE, Changes, ProxyNode, Resource
from pilotfish.xds.status import Log

NODE = ProxyNode("sidecar~10.0.0.1~web.default~x", "sidecar", "10.0.0.1", "web", "default")
TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
NAMES = ("a", "b", "c", "d")


class Config:
    """Resources that the test changes."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Resource]] = {t: {} for t in TYPES}

    def resources(self, type_url: str) -> dict[str, Resource]:
        return self.held[type_url]

    def asked(self, *_: object) -> None: ...

    def answered(self, held: object) -> None: ...

    def close(self) -> None: ...


class Client:
    """A proxy that keeps to the protocol: it asks, drops what it no longer asks for, and answers when it likes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.now = 0.0
        self.held: dict[str, dict[str, str]] = {t: {} for t in TYPES}
        self.names: dict[str, set[str]] = {t: set() for t in TYPES}
        self.wildcard = {CLUSTER, LISTENER}
        self.connect()

    def connect(self) -> None:
        """A new stream; what is held is told."""
        self.session = Session(DELTA, NODE, self.config, Log())
        self.unanswered: dict[str, Any] = {}
        for type_url in TYPES:
            subscribe = sorted(self.names[type_url]) + (["*"] if type_url in self.wildcard else [])
            self.tell(type_url, subscribe, initial_resource_versions=self.held[type_url])

    def tell(self, type_url: str, subscribe: Any = (), unsubscribe: Any = (), **fields: Any) -> None:
        self.session.receive(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=type_url,
                resource_names_subscribe=subscribe,
                resource_names_unsubscribe=unsubscribe,
                **fields,
            )
        )

    def take(self) -> bool:
        """Receive one response, if there is one, to be looked at when it is answered."""
        body = self.session.next_response(self.now)
        if body is None:
            return False
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(body)
        assert response.type_url not in self.unanswered, "a second response before the first was answered"
        self.unanswered[response.type_url] = response
        return True

    def answer(self, type_url: str) -> None:
        """Take in what is asked for by now, and nothing else."""
        response = self.unanswered.pop(type_url, None)
        if response is None:
            return
        held = self.held[type_url]
        for resource in response.resources:
            if type_url in self.wildcard or resource.name in self.names[type_url]:
                held[resource.name] = resource.version
        for name in response.removed_resources:
            held.pop(name, None)
        self.tell(type_url, response_nonce=response.nonce)

    def toggle(self, type_url: str, name: str) -> None:
        """Ask for a name, or no longer."""
        if name in self.names[type_url]:
            self.names[type_url].discard(name)
            if type_url not in self.wildcard:
                self.held[type_url].pop(name, None)
            self.tell(type_url, unsubscribe=[name])
        else:
            self.names[type_url].add(name)
            self.tell(type_url, subscribe=[name])

    def settle(self) -> None:
        """Take and answer until nothing comes even after the time for which anything is held back."""
        for _ in range(3):
            while self.take() or self.unanswered:
                for type_url in TYPES:
                    self.answer(type_url)
            self.now += HOLD


def body(type_url: str, name: str, version: str) -> bytes:
    if type_url != CLUSTER:
        return b""
    cluster = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS, alt_stat_name=version)
    cluster.eds_cluster_config.eds_config.ads.SetInParent()
    encoded: bytes = cluster.SerializeToString()
    return encoded


types, names = st.sampled_from(TYPES), st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("set"), types, names, st.integers(1, 3)),
    st.tuples(st.just("remove"), types, names),
    st.tuples(st.just("toggle"), types, names),
    st.tuples(st.just("answer"), types),
    st.tuples(st.just("take")),
    st.tuples(st.just("reconnect")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=40))
def test_the_proxy_ends_with_what_the_source_has(history: list[tuple[Any, ...]]) -> None:
    config = Config()
    client = Client(config)
    for action, *arguments in history:
        match action:
            case "set":
                type_url, name, number = arguments
                version = str(number)
                config.held[type_url][name] = Resource(name, version, body(type_url, name, version))
                client.session.changed(changes(type_url, name))
            case "remove":
                type_url, name = arguments
                if config.held[type_url].pop(name, None):
                    client.session.changed(changes(type_url, name))
            case "toggle":
                client.toggle(*arguments)
            case "answer":
                client.answer(*arguments)
            case "take":
                client.take()
            case "reconnect":
                client.connect()
    client.settle()
    for type_url in TYPES:
        everything = {name: resource.version for name, resource in config.held[type_url].items()}
        if type_url not in client.wildcard:
            everything = {name: version for name, version in everything.items() if name in client.names[type_url]}
        assert client.held[type_url] == everything
    assert all(state.synced for state in client.session.state().values())


def changes(type_url: str, name: str) -> Changes:
    return {type_url: frozenset({name})}


def test_what_was_told_counts_as_answered_once_nothing_is_left() -> None:
    config = Config()
    config.held[CLUSTER]["a"] = Resource("a", "1", body(CLUSTER, "a", "1"))
    client = Client(config)
    session = client.session
    told = session.told
    assert (told, session.answered) == (len(TYPES), 0), "nobody has anything before it has its first configuration"
    client.settle()
    assert session.answered == told

    config.held[CLUSTER]["a"] = Resource("a", "2", body(CLUSTER, "a", "2"))
    session.changed({CLUSTER: frozenset({"a"})})
    assert (session.told, session.answered) == (told + 1, told)
    assert client.take()
    assert session.answered == told, "it was sent, and not answered for"
    client.settle()
    assert session.answered == told + 1
    session.changed({ROUTE: frozenset({"nobody's"})})
    assert session.told == told + 1, "what it does not subscribe to is no word to it"
    session.changed({CLUSTER: frozenset({"a"})})
    assert session.answered == told + 1
    assert not client.take()
    assert session.answered == session.told == told + 2, "what is as it was needs no answer"
