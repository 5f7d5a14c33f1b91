"""The certificates and keys of one mesh: where they lie on disk, and how they are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate (with what chains it to the root, leaf first) and its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The two files of one key pair, as servers and kubeconfigs want them named."""

    certificate: Path
    key: Path

    def load(self) -> KeyPair:
        """Raises FileNotFoundError where the pair has not been issued yet."""
        return KeyPair(self.certificate.read_bytes(), self.key.read_bytes())

    def save(self, pair: KeyPair) -> None:
        replace(self.key, pair.key)
        replace(self.certificate, pair.certificate)


@dataclass(frozen=True)
class Files:
    """Everything in `$HOME/pki`. Who reads which: `provision` makes them all, each process loads its own."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The root certificate: what everyone in the mesh trusts."""
        return self.folder / "ca.crt"

    @property
    def ca_key(self) -> Path:
        return self.folder / "ca.key"

    @property
    def api_server(self) -> KeyFiles:
        """What the embedded API server shows to its clients."""
        return self._pair("apiserver")

    @property
    def api_server_client(self) -> KeyFiles:
        """What the API server shows to node agents (logs, exec): CN pilotfish-apiserver."""
        return self._pair("apiserver-client")

    @property
    def xds_server(self) -> KeyFiles:
        """What the xDS and certificate service shows to proxies and nodes."""
        return self._pair("xds")

    @property
    def admin(self) -> KeyFiles:
        """The user's client certificate: CN kubernetes-admin, O system:masters."""
        return self._pair("admin")

    @property
    def node(self) -> KeyFiles:
        """The node agent's client certificate, for the API and for xDS: CN system:node:<name>, O system:nodes."""
        return self._pair("node")

    @property
    def node_server(self) -> KeyFiles:
        """What the node agent's own API (port 10250) shows to the API server."""
        return self._pair("node-server")

    def _pair(self, name: str) -> KeyFiles:
        return KeyFiles(self.folder / f"{name}.crt", self.folder / f"{name}.key")


def replace(path: Path, content: bytes) -> None:
    """Write the file anew: readers see the old content or the new, and only the owner may read a key."""
    with _temporary(path, content) as made:
        made.rename(path)


def create(path: Path, content: bytes) -> bytes:
    """Write the file unless it exists, and return what is in it then: the first of several creators wins."""
    with _temporary(path, content) as made, contextlib.suppress(FileExistsError):
        os.link(made, path)
    return path.read_bytes()


@contextlib.contextmanager
def _temporary(path: Path, content: bytes) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    made = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o600 if path.suffix == ".key" else 0o644)
            os.fsync(file.fileno())
        yield made
    finally:
        made.unlink(missing_ok=True)
