"""Pods in real namespaces, on the host's network: what runs, what is logged, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pilotfish.node import logs, runtime, sandbox
from pilotfish.node.runtime import ContainerRecord, ContainerSpec, PodGone, RuntimeFailure
from pilotfish.node.sandbox import Bind, PodFolder, Sandbox

MISSING = "/etc/pilotfish-no-such-folder"
AT_ROOT = "/pilotfish-no-such-folder"
BIN = os.path.realpath("/bin")

pytestmark = pytest.mark.root

ENV = {"PATH": os.environ["PATH"], "GREETING": "hello"}


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[PodFolder]:
    # Deeper than a socket's path may be: homes are where people put them.
    folder = PodFolder(tmp_path / ("deep" * 25) / "0a1b2c3d")
    folder.path.mkdir(parents=True)
    (folder.path / "resolv.conf").write_text("nameserver 10.1.2.3\n")
    (folder.path / "hosts").write_text("127.0.0.1 localhost\n")
    # The last ones have no place on the host: one is made in an overlay, which must not cover the others, one in /.
    binds = (
        *(Bind("resolv.conf", "/etc/resolv.conf"), Bind("hosts", "/etc/hosts"), Bind("hosts", f"{MISSING}/hosts")),
        *(Bind("resolv.conf", f"{AT_ROOT}/a/b"), Bind("hosts", f"{AT_ROOT}/c")),
    )
    asyncio.run(sandbox.launch(folder, Sandbox("web-1", "", binds)))
    try:
        yield folder
    finally:
        sandbox.stop_supervisors([folder])


def shell(script: str, name: str = "app", attempt: int = 0, **changes: object) -> ContainerSpec:
    fields: dict[str, object] = {
        "name": name,
        "id": f"{name}-{attempt}",
        "attempt": attempt,
        "argv": ("sh", "-c", script),
        "env": ENV,
        "log": f"logs/{name}/{attempt}.log",
    }
    return ContainerSpec(**(fields | changes))  # type: ignore[arg-type]


async def ended(folder: PodFolder, name: str = "app") -> ContainerRecord:
    async with asyncio.timeout(10), contextlib.aclosing(runtime.watch(folder)) as changes:
        async for records in changes:
            for record in records:
                if record.name == name and not record.running:
                    return record
    raise AssertionError("the watch ended")


async def logged(folder: PodFolder, name: str = "app", options: logs.LogOptions = logs.LogOptions()) -> str:  # noqa: B008
    pieces = [piece async for piece in logs.read(folder.log(name, 0), options)]
    return b"".join(pieces).decode()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await holds():
            await asyncio.sleep(0.01)


def test_a_container_sees_its_pod_and_its_output_and_exit_code_are_kept(pod: PodFolder) -> None:
    async def scenario() -> None:
        await runtime.start(
            pod, shell(f"hostname; cat /etc/resolv.conf; echo $GREETING >&2; ls /run; ls {MISSING}; printf end; exit 3")
        )
        record = await ended(pod)
        assert (record.exit_code, record.signal) == (3, 0)
        lines = (await logged(pod)).splitlines()
        lines.remove("hello")  # the two streams are read side by side
        assert lines == ["web-1", "nameserver 10.1.2.3", "lock", "pilotfish", "hosts", "end"]
        assert runtime.last_records(pod) == (record,)
        stored = pod.log("app", 0).read_text().splitlines()
        assert all(line.split(" ")[1:3] in (["stdout", "F"], ["stderr", "F"]) for line in stored)

    host = Path("/etc/resolv.conf")
    before = host.read_text() if host.exists() else None
    asyncio.run(scenario())
    assert (host.read_text() if host.exists() else None) == before
    assert not Path(MISSING).exists()


def test_what_is_mounted_where_the_host_has_no_such_folder_in_its_root_is_there(pod: PodFolder) -> None:
    async def scenario() -> None:
        await runtime.start(
            pod, shell(f"cd {AT_ROOT}; ls -d *; cat a/b c; ls /proc/1/comm; test /bin -ef {BIN}; echo $?")
        )
        await ended(pod)
        assert await logged(pod) == "a\nc\nnameserver 10.1.2.3\n127.0.0.1 localhost\n/proc/1/comm\n0\n"
        await runtime.start(pod, shell("ls -A /", attempt=1))
        await ended(pod)
        inside = b"".join([piece async for piece in logs.read(pod.log("app", 1), logs.LogOptions())]).decode()
        assert set(inside.split()) - {AT_ROOT[1:]} == host

    host = {path.name for path in Path("/").iterdir()}
    asyncio.run(scenario())
    assert not Path(AT_ROOT).exists()


def test_the_first_process_of_a_container_is_asked_to_end_and_then_made_to(pod: PodFolder) -> None:
    async def scenario() -> None:
        await runtime.start(pod, shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done", "polite"))
        await runtime.start(pod, shell("trap '' TERM; echo up; while :; do sleep 0.05; done", "stubborn"))
        for name in ("polite", "stubborn"):
            await until(lambda name=name: _has_said(pod, name, "up"))
            await runtime.stop_container(pod, name, ended(pod, name), grace_seconds=0.5)
        assert (await ended(pod, "polite")).exit_code == 0
        assert await logged(pod, "polite") == "up\nbye\n"
        killed = await ended(pod, "stubborn")
        assert (killed.exit_code, killed.signal) == (137, signal.SIGKILL)

    asyncio.run(scenario())


async def _has_said(pod: PodFolder, name: str, text: str) -> bool:
    return text in await logged(pod, name)


def test_what_a_container_leaves_behind_ends_with_it(pod: PodFolder) -> None:
    marker = f"86{os.getpid()}"

    async def scenario() -> None:
        await runtime.start(pod, shell(f"sleep {marker} & exit 0"))
        assert (await ended(pod)).exit_code == 0
        found = await _exec(pod, "sh", "-c", f"ps ax | grep -c '[s]leep {marker}'")
        assert found == (1, "0\n")

    asyncio.run(scenario())


async def _exec(pod: PodFolder, *command: str, **options: object) -> tuple[int, str]:
    out: list[bytes] = []

    async def keep(data: bytes) -> None:
        out.append(data)

    code = await runtime.exec(pod, "app", command, stdout=keep, stderr=keep, **options)  # type: ignore[arg-type]
    return code, b"".join(out).decode()


async def _bytes(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def test_exec_runs_with_the_containers_environment_and_streams(pod: PodFolder) -> None:
    async def scenario() -> None:
        await runtime.start(pod, shell("sleep 1000", cwd="/usr"))
        assert await _exec(pod, "sh", "-c", "echo $GREETING; pwd; hostname; exit 4") == (4, "hello\n/usr\nweb-1\n")
        big = b"x" * 300_000
        code, text = await _exec(pod, "wc", "-c", stdin=_bytes(big, b"y"))
        assert (code, text.strip()) == (0, "300001")
        with pytest.raises(RuntimeFailure, match="executable file not found"):
            await _exec(pod, "no-such-program")
        with pytest.raises(RuntimeFailure, match="has not been started"):
            await runtime.exec(pod, "other", ["true"])

    asyncio.run(scenario())


def test_exec_on_a_terminal(pod: PodFolder) -> None:
    async def sizes() -> AsyncIterator[tuple[int, int]]:
        yield (133, 44)
        await asyncio.Event().wait()

    async def scenario() -> None:
        await runtime.start(pod, shell("sleep 1000"))
        script = "until [ \"$(stty size)\" = '44 133' ]; do sleep 0.01; done; tty; read line; echo got $line"
        code, text = await _exec(pod, "sh", "-c", script, tty=True, stdin=_bytes(b"typed\n"), resize=sizes())
        assert code == 0
        assert "/dev/pts/" in text
        assert text.endswith("got typed\r\n")

    asyncio.run(scenario())


def test_a_cancelled_exec_takes_its_command_with_it(pod: PodFolder) -> None:
    marker = f"87{os.getpid()}"

    async def scenario() -> None:
        await runtime.start(pod, shell("sleep 1000"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await _exec(pod, "sleep", marker)

        async def gone() -> bool:
            return (await _exec(pod, "sh", "-c", f"ps ax | grep -c '[s]leep {marker}'"))[1].strip() == "0"

        await until(gone)

    asyncio.run(scenario())


def test_a_program_that_cannot_be_started_is_an_error_with_its_reason(pod: PodFolder) -> None:
    async def scenario() -> None:
        with pytest.raises(RuntimeFailure, match=r"exec: 'nowhere': executable file not found in \$PATH"):
            await runtime.start(pod, shell("", argv=("nowhere",)))
        with pytest.raises(RuntimeFailure, match="chdir to '/no/such/place': No such file or directory"):
            await runtime.start(pod, shell("true", cwd="/no/such/place"))

    asyncio.run(scenario())


def test_a_pod_outlives_whoever_started_it_and_ends_with_its_supervisor(tmp_path: Path) -> None:
    folder = PodFolder(tmp_path / "0a1b2c3d")
    folder.path.mkdir()
    program = f"""
import asyncio, os, signal
from pathlib import Path
from pilotfish.node import runtime, sandbox
from pilotfish.node.sandbox import PodFolder, Sandbox
folder = PodFolder(Path({str(folder.path)!r}))
async def run():
    await sandbox.launch(folder, Sandbox("web-1", "", ()))
    spec = runtime.ContainerSpec(name="app", id="1", attempt=0, argv=("sh", "-c", "while :; do date; sleep 0.02; done"),
                                 env={{"PATH": os.environ["PATH"]}}, log="logs/app/0.log")
    await runtime.start(folder, spec)
    os.killpg(0, signal.SIGKILL)
asyncio.run(run())
"""
    try:
        result = subprocess.run([sys.executable, "-c", program], start_new_session=True, check=False, timeout=20)
        assert result.returncode == -signal.SIGKILL
        pid = sandbox.supervisor_pid(folder)
        assert pid is not None

        async def still_logging() -> None:
            size = folder.log("app", 0).stat().st_size

            async def grown() -> bool:
                return folder.log("app", 0).stat().st_size > size

            await until(grown)
            async with contextlib.aclosing(runtime.watch(folder)) as changes:
                async for (record,) in changes:
                    assert record.running
                    break

        asyncio.run(still_logging())
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while sandbox.supervisor_pid(folder) is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(PodGone):
            asyncio.run(runtime.send_signal(folder, "app", signal.SIGTERM))
        assert runtime.last_records(folder)[0].running  # as last written; the reader knows that it was killed
    finally:
        sandbox.stop_supervisors([folder])


def test_a_sandbox_that_the_kernel_refuses_says_why(tmp_path: Path) -> None:
    folder = PodFolder(tmp_path / "0a1b2c3d")
    folder.path.mkdir()
    with pytest.raises(sandbox.SandboxError, match="No such file"):
        asyncio.run(sandbox.launch(folder, Sandbox("web-1", "/run/netns/pilotfish-none", ())))
    assert sandbox.supervisor_pid(folder) is None
