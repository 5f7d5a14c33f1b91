"""A process full of simulated proxies, beside the one that measures."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import resource
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from benchmarks.simulated import SimulatedProxy, run_all
from pilotfish.home import Home
from pilotfish.pki.authority import Authority, SubjectNames
from pilotfish.pki.files import Files
from pilotfish.pki.identity import Identity


@dataclass(frozen=True)
class State:
    """All proxies of a fleet at one moment."""

    configured: int
    streams: int
    """Streams that were opened, in all."""
    received: int
    """Resources and removals that were sent to them, in all."""
    clusters: int
    stamps: tuple[float, ...]
    """When each last received something: monotonic seconds, ascending."""


@dataclass
class Fleet:
    size: int
    pipe: Connection

    async def state(self) -> State:
        """Raises EOFError when the fleet's process has ended."""
        self.pipe.send(())
        state: State = await asyncio.to_thread(self.pipe.recv)
        return state

    async def until(self, holds: Callable[[State], bool], timeout: float = 300.0) -> State:
        """The first state seen that satisfies. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not holds(state := await self.state()):  # noqa: ASYNC110 - another process's counters
                await asyncio.sleep(0.05)
        return state


@contextlib.contextmanager
def fleet(home: Home, namespaces: Sequence[str], size: int) -> Iterator[Fleet]:
    """`size` proxies, spread over the namespaces; they begin to connect when `state` is first asked for."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=_main, args=(theirs, home.path, namespaces, size))
    child.start()
    theirs.close()
    ours.recv()  # its certificates are made
    try:
        yield Fleet(size, ours)
        ours.send(None)
        child.join(30)
    finally:
        if child.is_alive():
            child.kill()
        child.join()


def _main(pipe: Connection, home: Path, namespaces: Sequence[str], size: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    tls = credentials(Home(home), namespaces)
    pipe.send(())
    uvloop.run(_run(pipe, f"127.0.0.1:{Home(home).settings().xds_port}", tls, size))


def credentials(home: Home, namespaces: Sequence[str]) -> dict[str, ssl.SSLContext]:
    """A workload's certificate for each namespace."""
    authority, trust_domain = Authority.at(Files(home.pki)), home.settings().trust_domain
    made = {}
    for namespace in namespaces:
        names = SubjectNames.of(uris=[str(Identity(trust_domain, namespace, "default"))])
        pair = authority.issue_client("", names=names)
        made[namespace] = tls = ssl.create_default_context(cadata=authority.pem.decode())
        tls.set_alpn_protocols(["h2"])
        with tempfile.NamedTemporaryFile() as file:
            file.write(pair.key + pair.certificate)
            file.flush()
            tls.load_cert_chain(file.name)
    return made


async def _run(pipe: Connection, target: str, tls: dict[str, ssl.SSLContext], size: int) -> None:
    ended, began = asyncio.Event(), asyncio.Event()
    proxies = {
        SimulatedProxy(f"sidecar~10.{n >> 16}.{n >> 8 & 255}.{n & 255}~web-{n}.{namespace}~x"): tls[namespace]
        for n, namespace in zip(range(size), itertools.cycle(tls), strict=False)
    }

    def report() -> None:
        if pipe.recv() is None:
            ended.set()
        else:
            pipe.send(_state(tuple(proxies)))
        began.set()

    asyncio.get_running_loop().add_reader(pipe.fileno(), report)
    await began.wait()
    await run_all(proxies, target, ended)


def _state(proxies: tuple[SimulatedProxy, ...]) -> State:
    return State(
        configured=sum(proxy.configured for proxy in proxies),
        streams=sum(proxy.streams for proxy in proxies),
        received=sum(proxy.received for proxy in proxies),
        clusters=sum(proxy.clusters for proxy in proxies),
        stamps=tuple(sorted(proxy.changed_at for proxy in proxies)),
    )
