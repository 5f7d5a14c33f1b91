"""One mesh's home folder: where everything that it keeps on disk lives, and its settings.

Two meshes with two homes share nothing. Every process of a mesh is given the home and finds the rest from it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `pilotfish up` decided for this mesh; kept for its life in settings.json."""

    node_name: str
    api_port: int
    xds_port: int
    pod_cidr: str
    service_cidr: str
    cluster_domain: str = "cluster.local"
    trust_domain: str = "cluster.local"

    @property
    def gateway_ip(self) -> str:
        """The node's own address inside the mesh: the first of the pod network, on the mesh's own link."""
        return str(ipaddress.ip_network(self.pod_cidr)[1])

    @property
    def api_url(self) -> str:
        return f"https://127.0.0.1:{self.api_port}"


@dataclass(frozen=True)
class Home:
    """The paths below one home folder."""

    path: Path

    @staticmethod
    def default() -> Home:
        """$PILOTFISH_HOME, or ~/.local/state/pilotfish."""
        chosen = os.environ.get("PILOTFISH_HOME")
        return Home(Path(chosen) if chosen else Path.home() / ".local/state/pilotfish")

    @property
    def id(self) -> str:
        """Six hex digits, stable for the folder; names of links, namespaces and tables carry them."""
        return hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:6]

    @property
    def settings_file(self) -> Path:
        return self.path / "settings.json"

    @property
    def kubeconfig(self) -> Path:
        return self.path / "kubeconfig"

    @property
    def node_kubeconfig(self) -> Path:
        return self.path / "node.kubeconfig"

    @property
    def database(self) -> Path:
        return self.path / "state.db"

    @property
    def pki(self) -> Path:
        return self.path / "pki"

    @property
    def images(self) -> Path:
        """The local image store: one JSON file an image."""
        return self.path / "images"

    @property
    def pods(self) -> Path:
        """One folder a pod, named by its uid: sandbox state, logs, proxy bootstrap."""
        return self.path / "pods"

    @property
    def run(self) -> Path:
        """Sockets and pid files."""
        return self.path / "run"

    @property
    def dns_socket(self) -> Path:
        """Where the node agent finds the DNS process; it is there when queries are answered."""
        return self.run / "dns.sock"

    @property
    def logs(self) -> Path:
        """The logs of our own processes."""
        return self.path / "logs"

    def settings(self) -> Settings:
        """The mesh's settings. Raises FileNotFoundError where no mesh was ever started."""
        return msgspec.json.decode(self.settings_file.read_bytes(), type=Settings)

    def save_settings(self, settings: Settings) -> None:
        self.settings_file.write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=2))
