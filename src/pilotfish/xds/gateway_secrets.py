"""The credentials of a gateway's servers: out of Secrets of the gateway's own namespace, or of files in its pod."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from pilotfish.api.core import Secret
from pilotfish.mesh.credentials import Unusable, credential, resource_name, roots_name, secret_names
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import SecretKey
from pilotfish.mesh.servers import Server, Termination
from pilotfish.xds import source
from pilotfish.xds.build.secrets import CertificateFileSpec, RootFileSpec, SecretSpec
from pilotfish.xds.entries import Spec
from pilotfish.xds.parts import Part


class GatewaySecrets:
    """Keeps the secrets of a part as its servers need them.

    One whose Secret is not there, or not usable, is not sent: the server then ends the connections that come to it,
    and the others of its listener serve theirs.
    """

    def __init__(self, part: Part, namespace: str, model: Model) -> None:
        self._part = part
        self._namespace = namespace
        self._model = model
        self._servers: dict[str, list[Server]] = {}  # name of a resource → servers that need it
        self._unusable: dict[str, str] = {}
        self.wanted: frozenset[SecretKey] = frozenset()
        """The Secrets that can hold what is needed."""

    def need(self, servers: Iterable[Server]) -> None:
        """Have what these servers need, and nothing else."""
        self._servers.clear()
        files: list[Spec] = []
        for server in servers:
            if server.termination is not None:
                files.extend(file_secrets(server.termination))
                for resource in secret_resources(server.termination):
                    self._servers.setdefault(resource, []).append(server)
        self.wanted = frozenset(
            SecretKey(self._namespace, name) for resource in self._servers for name in secret_names(resource)
        )
        self._unusable.clear()
        found = (self._look(resource) for resource in self._servers)
        before = [entry.spec for entry in self._part.entries(source.SECRET).values()]
        self._part.replace(before, [*files, *(spec for spec in found if spec is not None)])

    def update(self, changed: Collection[SecretKey]) -> None:
        """Look again at Secrets. Envoy keeps what it has when a Secret goes, and serves on (it ignores the removal)."""
        for resource in self._servers:
            if any(SecretKey(self._namespace, name) in changed for name in secret_names(resource)):
                spec = self._look(resource)
                if spec is not None:
                    self._part.put(spec)
                elif resource in self._part.entries(source.SECRET):
                    self._part.drop(source.SECRET, resource)

    def problems(self) -> Iterator[tuple[Server, str]]:
        """The servers that lack something, each with what it is."""
        for resource, reason in self._unusable.items():
            yield from ((server, reason) for server in self._servers[resource])

    def _look(self, resource: str) -> SecretSpec | None:
        self._unusable.pop(resource, None)
        try:
            return SecretSpec(resource, credential(resource, self._secret))
        except Unusable as error:
            self._unusable[resource] = f"{error} (namespace {self._namespace})"
            return None

    def _secret(self, name: str) -> Secret | None:
        return self._model.secret(SecretKey(self._namespace, name))


def secret_resources(termination: Termination) -> Iterator[str]:
    """The names of the secrets that a server asks for, of those that are made from Secrets."""
    yield from map(resource_name, termination.credentials)
    if termination.root_credential:
        yield roots_name(termination.root_credential)


def file_secrets(termination: Termination) -> Iterator[Spec]:
    """The secrets that are made from files of the pod."""
    yield from (CertificateFileSpec(each.certificate, each.key) for each in termination.files)
    if termination.roots:
        yield RootFileSpec(termination.roots)
