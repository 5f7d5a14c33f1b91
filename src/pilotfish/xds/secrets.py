"""The secrets of proxies: out of Secrets of the proxies' own namespace, or of files in their pods."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping

from pilotfish.mesh.credentials import CONFIG_MAP, Unusable, credential, resource_name, roots_name, secret_keys
from pilotfish.mesh.index import MultiMap
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import SecretKey
from pilotfish.mesh.servers import Termination
from pilotfish.xds import source
from pilotfish.xds.build.clusters import ClusterSpec
from pilotfish.xds.build.secrets import CertificateFileSpec, RootFileSpec, SecretSpec
from pilotfish.xds.build.upstream_tls import Origination
from pilotfish.xds.entries import Spec
from pilotfish.xds.parts import Part

Need = CertificateFileSpec | RootFileSpec | str
"""Files, or the name under which a proxy asks for what is made from a Secret."""


class Secrets:
    """Keeps the secrets of a part as its users need them.

    One whose Secret is not there, or not usable, is not sent: whatever needs it fails, and everything else works.
    """

    def __init__(self, part: Part, namespace: str, model: Model, *, vouched: bool = True) -> None:
        """Of Secrets there is nothing for proxies for which nobody vouches that they are who they say."""
        self._part = part
        self._namespace = namespace
        self._model = model
        self._vouched = vouched
        self._of_user: dict[Hashable, frozenset[Need]] = {}
        self._users: MultiMap[Need, Hashable] = MultiMap()
        self._unusable: dict[str, str] = {}

    @property
    def wanted(self) -> Iterator[SecretKey]:
        """The Secrets that can hold what is needed."""
        for need in self._users:
            if isinstance(need, str) and self._may_have(need):
                yield from secret_keys(need, self._namespace)

    def use(self, user: Hashable, needs: Iterable[Need]) -> None:
        """Have a user need these, and none that it needed before."""
        before, after = self._of_user.pop(user, frozenset()), frozenset(needs)
        if after:
            self._of_user[user] = after
        for need in after - before:
            new = not self._users.count(need)
            self._users.add(need, user)
            if new:
                self._look(need)
        for need in before - after:
            self._users.remove(need, user)
            if not self._users.count(need):
                self._drop(need)

    def use_only(self, needs: Mapping[Hashable, Iterable[Need]], among: type) -> None:
        """Have these users, and no others of a type."""
        for user in [user for user in self._of_user if isinstance(user, among) and user not in needs]:
            self.use(user, ())
        for user, needed in needs.items():
            self.use(user, needed)

    def update(self, changed: Collection[SecretKey]) -> frozenset[Hashable]:
        """Look again at Secrets; gives the users that need them. Envoy keeps what it has when a Secret goes, and works
        on with it (it ignores the removal).
        """
        touched: set[Hashable] = set()
        for need in tuple(self._users) if changed else ():
            if isinstance(need, str) and not set(secret_keys(need, self._namespace)).isdisjoint(changed):
                self._look(need)
                touched.update(self._users[need])
        return frozenset(touched)

    def lacking(self) -> Iterator[tuple[Hashable, str]]:
        """The users that lack something, each with what it is."""
        for resource, reason in self._unusable.items():
            yield from ((user, reason) for user in self._users[resource])

    def _may_have(self, resource: str) -> bool:
        """Roots in a ConfigMap are no secret."""
        return self._vouched or resource.startswith(CONFIG_MAP)

    def _look(self, need: Need) -> None:
        if not isinstance(need, str):
            self._part.put(need)
            return
        self._drop(need)
        if not self._may_have(need):
            return
        try:
            self._part.put(SecretSpec(need, credential(need, self._namespace, self._model.secret)))
        except Unusable as error:
            self._unusable[need] = str(error)

    def _drop(self, need: Need) -> None:
        name = need if isinstance(need, str) else need.name
        self._unusable.pop(name, None)
        if name in self._part.entries(source.SECRET):
            self._part.drop(source.SECRET, name)


def needs_of_server(termination: Termination | None) -> Iterator[Need]:
    """What a server of TLS needs."""
    if termination is not None:
        yield from file_secrets(termination)
        yield from secret_resources(termination)


def needs_of_clusters(clusters: Iterable[Spec]) -> Iterator[Need]:
    """What clusters need that begin TLS."""
    for cluster in clusters:
        if isinstance(cluster, ClusterSpec) and isinstance(cluster.policy.tls, Origination):
            yield from cluster.policy.tls.files
            yield from cluster.policy.tls.resources


def secret_resources(termination: Termination) -> Iterator[str]:
    """The names of the secrets that a server asks for, of those that are made from Secrets."""
    yield from map(resource_name, termination.credentials)
    if termination.root_credential:
        yield roots_name(termination.root_credential)


def file_secrets(termination: Termination) -> Iterator[CertificateFileSpec | RootFileSpec]:
    """The secrets that are made from files of the pod."""
    yield from (CertificateFileSpec(each.certificate, each.key) for each in termination.files)
    if termination.roots:
        yield RootFileSpec(termination.roots)
