"""A pod's sandbox on disk and in the kernel: its folder, and the supervisor that holds its namespaces."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

import pilotfish
from pilotfish.node.supervisor.main import PID_FILE

T = TypeVar("T")

_START = (
    "import sys; sys.path.append(sys.argv[2]); "
    "from pilotfish.node.supervisor.main import main; main(sys.argv[1])"
)  # fmt: skip
_SOURCE = str(Path(pilotfish.__file__).parent.parent)

STOP_SECONDS = 3.0
"""How long a supervisor that was told to end may take before it is killed; it gives its containers two seconds."""


class SandboxError(Exception):
    """The pod's sandbox could not be made; the text says what the kernel refused."""


class Bind(msgspec.Struct, frozen=True, array_like=True):
    """A file or folder shown inside the pod. `source` is relative to the pod's folder, or absolute."""

    source: str
    target: str
    read_only: bool = False


class RelayConfig(msgspec.Struct, frozen=True):
    """Where the proxy's xDS connections go, and whose log tells of them. `name` is the abstract socket's."""

    name: str
    host: str
    port: int
    container: str = "istio-proxy"


class Sandbox(msgspec.Struct, frozen=True):
    """What a supervisor is told. `netns` is a path, or "" for the host's network."""

    hostname: str
    netns: str
    binds: tuple[Bind, ...]
    relay: RelayConfig | None = None


@dataclass(frozen=True)
class PodFolder:
    """The paths of one pod below its folder `$HOME/pods/<uid>`."""

    path: Path

    @property
    def uid(self) -> str:
        return self.path.name

    @property
    def record(self) -> Path:
        """What the agent remembers of the pod (`pod.json`)."""
        return self.path / "pod.json"

    @property
    def states(self) -> Path:
        """The supervisor's record of its containers, for when it is gone itself."""
        return self.path / "containers.json"

    @property
    def proxy(self) -> Path:
        """Bootstrap and certificates of the pod's proxy."""
        return self.path / "proxy"

    @property
    def grpc(self) -> Path:
        """Bootstrap and certificates of gRPC's own xDS clients in the pod."""
        return self.path / "grpc"

    def spec(self, container: str) -> Path:
        """How a container was last started."""
        return self.path / "specs" / f"{container}.json"

    def log(self, container: str, attempt: int) -> Path:
        return self.path / "logs" / container / f"{attempt}.log"


def write_private(path: Path, content: str | bytes, mode: int = 0o600, group: int = -1) -> None:
    """Write a file that appears whole or not at all, readable by us alone unless `mode` and `group` say otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        os.fchown(descriptor, -1, group)
        file.write(content.encode() if isinstance(content, str) else content)
    new.rename(path)


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """What the work gives. It is not broken off where we are: cancellation takes effect when it is done."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def launch(folder: PodFolder, sandbox: Sandbox) -> None:
    """Start the pod's supervisor and return when it listens. It is no child of ours. Raises SandboxError."""
    # Half a start cannot be undone: the supervisor that we did not wait for would be nobody's.
    await to_the_end(_launch(folder, sandbox))


async def _launch(folder: PodFolder, sandbox: Sandbox) -> None:
    write_private(folder.path / "sandbox.json", msgspec.json.encode(sandbox))
    log = (folder.path / "supervisor.log").open("ab")
    with log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _START, str(folder.path), _SOURCE),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": os.defpath},
            cwd="/",
            start_new_session=True,
        )
        code = await process.wait()
    if code != 0:
        said = (folder.path / "supervisor.log").read_text(errors="replace").strip().splitlines()
        raise SandboxError(said[-1] if said else f"the pod's supervisor ended with {code}")


def supervisor_pid(folder: PodFolder) -> int | None:
    """The pid of the pod's supervisor, or None when it does not run (any more)."""
    try:
        pid = int((folder.path / PID_FILE).read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    # A pid may be another process's by now. A zombie has no arguments, so it does not count as running either.
    return pid if os.fsencode(folder.path) in arguments else None


def stop_supervisors(folders: Iterable[PodFolder]) -> None:
    """End pods, all at once: their containers get a moment to finish. Everything in them is gone on return. Blocks."""
    alive = {folder: pid for folder in folders if (pid := supervisor_pid(folder)) is not None}
    for pid in alive.values():
        _kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while alive and time.monotonic() < deadline:
        time.sleep(0.01)
        alive = {folder: pid for folder, pid in alive.items() if supervisor_pid(folder) is not None}
    for pid in alive.values():
        _kill(pid, signal.SIGKILL)
    while any(supervisor_pid(folder) is not None for folder in alive):
        time.sleep(0.005)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


async def destroy(folder: PodFolder) -> None:
    """End the pod's supervisor, and with it every process of the pod, and remove the folder."""
    await asyncio.to_thread(stop_supervisors, [folder])
    await asyncio.to_thread(shutil.rmtree, folder.path, ignore_errors=True)
