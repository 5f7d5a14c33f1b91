"""An API server with certificates, over a memory store, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pilotfish.api.kinds import SCHEME
from pilotfish.apiserver.allocation import service_allocation
from pilotfish.apiserver.bootstrap import ensure_default_objects
from pilotfish.apiserver.resources import Resources
from pilotfish.apiserver.server import build_app, serve
from pilotfish.serving import Listener, listen
from pilotfish.store.memory import MemoryStore

LOOPBACK = ipaddress.ip_address("127.0.0.1")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    ca: Path
    server: Pair
    client: Pair


def make_pair(
    folder: Path, name: x509.Name, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> tuple[Pair, x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    signer = issuer[1] if issuer else key
    authority = x509.BasicConstraints(ca=issuer is None, path_length=None)
    usage = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(LOOPBACK)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(authority, critical=True)
        .add_extension(usage, critical=False)
    )
    certificate = builder.sign(signer, hashes.SHA256())
    stem = name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    pair = Pair(folder / f"{stem}.crt", folder / f"{stem}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair, certificate, key


def make_certificates(folder: Path) -> Certificates:
    def name(common: str, *organisations: str) -> x509.Name:
        pairs = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organisations]
        return x509.Name([*pairs, x509.NameAttribute(NameOID.COMMON_NAME, common)])

    ca, ca_certificate, ca_key = make_pair(folder, name("ca"), None)
    server, _, _ = make_pair(folder, name("server"), (ca_certificate, ca_key))
    client, _, _ = make_pair(folder, name("admin", "system:masters"), (ca_certificate, ca_key))
    return Certificates(ca.certificate, server, client)


@dataclass(frozen=True)
class RunningServer:
    """A server that takes requests, and what a client needs."""

    port: int
    certificates: Certificates
    kubeconfig: Path
    resources: Resources

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.tls(), timeout=10)

    def tls(self, *, anonymous: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        if not anonymous:
            context.load_cert_chain(self.certificates.client.certificate, self.certificates.client.key)
        return context


def write_kubeconfig(path: Path, port: int, certificates: Certificates) -> None:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                "clusters": [
                    {
                        "name": "test",
                        "cluster": {
                            "server": f"https://127.0.0.1:{port}",
                            "certificate-authority": str(certificates.ca),
                        },
                    }
                ],
                "users": [
                    {
                        "name": "admin",
                        "user": {
                            "client-certificate": str(certificates.client.certificate),
                            "client-key": str(certificates.client.key),
                        },
                    }
                ],
            }
        )
    )
    path.chmod(0o600)


@contextlib.contextmanager
def running_server(folder: Path) -> Iterator[tuple[RunningServer, Callable[[], None]]]:
    """A server in a thread of its own, and what stops it before its time."""
    certificates = make_certificates(folder)
    listening: list[RunningServer] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    kubeconfig = folder / "kubeconfig"

    async def run() -> None:
        store = MemoryStore()
        resources = Resources(store, SCHEME, [service_allocation("10.96.0.0/16", store)])
        await ensure_default_objects(resources)
        socket = listen("127.0.0.1", 0)
        listener = Listener(socket, certificates.server.certificate, certificates.server.key, certificates.ca)
        write_kubeconfig(kubeconfig, listener.port, certificates)
        listening.append(RunningServer(listener.port, certificates, kubeconfig, resources))
        ready.set()
        await serve(build_app(resources), listener)

    serving = loop.create_task(run())

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(asyncio.wait([serving]))

    thread = threading.Thread(target=work)
    thread.start()

    def stop() -> None:
        if thread.is_alive():
            loop.call_soon_threadsafe(serving.cancel)
        thread.join(15)

    try:
        assert ready.wait(10), "the server did not start"
        yield listening[0], stop
    finally:
        stop()
        loop.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A running server, one for all tests of a module: each uses names of its own."""
    with running_server(tmp_path_factory.mktemp("api")) as (server, _):
        yield server


@pytest.fixture
def stoppable_api(tmp_path: Path) -> Iterator[tuple[RunningServer, Callable[[], None]]]:
    """A server of the test's own, and what stops it."""
    with running_server(tmp_path) as running:
        yield running


@pytest.fixture
def foreign_certificates(tmp_path: Path) -> Certificates:
    """Certificates of an authority that no server knows."""
    return make_certificates(tmp_path)
