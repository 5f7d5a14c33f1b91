"""The supervisor keeps a role running, whoever started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pilotfish.cli import supervise
from pilotfish.cli.process import running
from pilotfish.home import Home

FAKE_ROLE = """
import sys, time
from pathlib import Path
from pilotfish.cli.process import hold
from pilotfish.home import Home
with hold(Home(Path(sys.argv[1])), sys.argv[2]):
    time.sleep(60)
"""


class FakeRoles:
    """Starts programs that hold a role and do nothing."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self.program = FAKE_ROLE

    def spawn(self, home: Home, role: str) -> subprocess.Popen[bytes]:
        self.started.append(subprocess.Popen([sys.executable, "-c", self.program, str(home.path), role]))
        return self.started[-1]


@pytest.fixture
def roles(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRoles]:
    fake = FakeRoles()
    monkeypatch.setattr(supervise, "spawn", fake.spawn)
    yield fake
    for process in fake.started:
        process.kill()
        process.wait()


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def _while_kept(home: Home, check: Callable[[], Awaitable[None]]) -> None:
    async def body() -> None:
        keeper = asyncio.create_task(supervise.keep(home, "serve"))
        try:
            await check()
            assert not keeper.done(), keeper
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    asyncio.run(body())


def test_a_role_that_is_killed_is_started_again(tmp_path: Path, roles: FakeRoles) -> None:
    home = Home(tmp_path)

    async def check() -> None:
        await _until(lambda: running(home, "serve"))
        first = running(home, "serve")
        assert first == roles.started[0].pid
        os.kill(first, signal.SIGKILL)
        await _until(lambda: running(home, "serve") not in (None, first))
        assert running(home, "serve") == roles.started[1].pid
        assert roles.started[0].returncode == -signal.SIGKILL  # no zombie stays

    _while_kept(home, check)
    assert roles.started[1].poll() is None  # a supervisor that ends leaves it running


def test_a_role_that_somebody_else_started_is_adopted(tmp_path: Path, roles: FakeRoles) -> None:
    home = Home(tmp_path)
    other = FakeRoles()
    adopted = other.spawn(home, "serve")

    async def check() -> None:
        await _until(lambda: running(home, "serve"))
        assert roles.started == []
        adopted.kill()
        await _until(lambda: running(home, "serve") not in (None, adopted.pid))
        assert [process.pid for process in roles.started] == [running(home, "serve")]

    try:
        asyncio.run(_until(lambda: running(home, "serve")))
        _while_kept(home, check)
    finally:
        adopted.kill()
        adopted.wait()


def test_a_role_that_never_lives_is_not_started_in_a_tight_loop(tmp_path: Path, roles: FakeRoles) -> None:
    roles.program = "raise SystemExit(3)"
    slept: list[float] = []

    async def check() -> None:
        await _until(lambda: len(roles.started) == 4)

    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds != 0.01:
            slept.append(seconds)
        await real(min(seconds, 0.01))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        _while_kept(Home(tmp_path), check)
    assert slept[:3] == [0.0, 0.1, 0.2]


def test_sigterm_ends_the_supervisor_and_not_what_it_keeps(tmp_path: Path, roles: FakeRoles) -> None:
    home = Home(tmp_path)

    async def body() -> None:
        supervisor = asyncio.create_task(supervise.supervise(home))
        await _until(lambda: running(home, "serve") and running(home, "node"))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(supervisor, 10)

    asyncio.run(body())
    assert len(roles.started) == 2
    assert all(process.poll() is None for process in roles.started)
