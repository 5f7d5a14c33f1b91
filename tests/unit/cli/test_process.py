"""Roles of a home: held by a lock that dies with its process, and ended for good."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pilotfish.cli import process
from pilotfish.cli.process import AlreadyRunning, changing, hold, processes, running, spawn, stop, wait_for_role
from pilotfish.home import Home

HOLDER = """
import sys, time
from pathlib import Path
from pilotfish.cli.process import hold
from pilotfish.home import Home
with hold(Home(Path(sys.argv[1])), "serve"):
    print("held", flush=True)
    time.sleep(60)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
Ended = Callable[[subprocess.Popen[bytes]], subprocess.Popen[bytes]]


def _start(program: str, *argv: str) -> subprocess.Popen[bytes]:
    started = subprocess.Popen([sys.executable, "-c", program, *argv], stdout=subprocess.PIPE)
    assert started.stdout is not None
    started.stdout.readline()
    return started


def test_a_role_is_held_once_and_let_go(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert running(home, "serve") is None
    with hold(home, "serve"):
        assert running(home, "serve") == os.getpid()
        assert running(home, "node") is None
        with pytest.raises(AlreadyRunning, match=f"`pilotfish serve`.*as process {os.getpid()}") as refused:
            hold(home, "serve").__enter__()
        assert refused.value.pid == os.getpid()
        assert running(home, "serve") == os.getpid()
    assert running(home, "serve") is None
    with hold(home, "serve"):
        assert running(home, "serve") == os.getpid()


def test_the_lock_dies_with_its_holder_however_it_ends(tmp_path: Path, ended: Ended) -> None:
    home = Home(tmp_path)
    holder = ended(_start(HOLDER, str(tmp_path)))
    assert running(home, "serve") == holder.pid
    with pytest.raises(AlreadyRunning, match=str(holder.pid)), hold(home, "serve"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (home.run / "serve.pid").read_text() == str(holder.pid)  # stale, and not believed
    assert running(home, "serve") is None
    with hold(home, "serve"):
        assert running(home, "serve") == os.getpid()


def test_the_lock_is_not_passed_on_to_children(tmp_path: Path, ended: Ended) -> None:
    home = Home(tmp_path)
    with hold(home, "serve"):
        child = ended(subprocess.Popen(["sleep", "60"]))
    assert child.poll() is None
    assert running(home, "serve") is None


def test_stop_asks_and_then_insists(ended: Ended) -> None:
    gentle = ended(subprocess.Popen(["sleep", "60"]))
    stop(gentle.pid)
    assert gentle.wait() == -signal.SIGTERM
    deaf = ended(_start(STUBBORN))
    began = time.monotonic()
    stop(deaf.pid, grace=0.2)
    assert deaf.wait() == -signal.SIGKILL
    assert 0.2 <= time.monotonic() - began < 5
    stop(deaf.pid)  # gone already


def test_spawn_starts_a_session_of_its_own_and_keeps_its_words(tmp_path: Path, ended: Ended, wait_until: Any) -> None:
    home = Home(tmp_path / "home")
    started = ended(process.spawn(home, "no-such-role"))
    assert os.getsid(started.pid) == started.pid
    assert started.wait(20) == 2
    assert "No such command 'no-such-role'" in process.log_tail(home, "no-such-role")
    assert process.log_tail(home, "no-such-role", lines=1).startswith("Error:")
    assert process.log_tail(home, "silent") == ""


def test_waiting_for_a_role(tmp_path: Path, ended: Ended) -> None:
    assert wait_for_role(Home(tmp_path), "serve", 0.02) is None
    holder = ended(_start(HOLDER, str(tmp_path)))
    assert wait_for_role(Home(tmp_path), "serve", 10) == holder.pid


def test_resident_memory() -> None:
    assert process.resident_kib(os.getpid()) > 1000
    gone = multiprocessing.get_context("spawn").Process(target=int)
    gone.start()
    pid = gone.pid
    gone.join()
    assert pid is not None
    assert process.resident_kib(pid) == 0


def test_a_process_that_does_not_hold_its_role_yet_is_found(tmp_path: Path) -> None:
    """`down` must end it too, or it would run on without a home."""
    home = Home(tmp_path)
    for _ in range(10):
        started = spawn(home, "serve")
        try:
            started.send_signal(signal.SIGSTOP)  # before it has loaded what it needs, unless this process had to wait
            if running(home, "serve") is None:
                assert processes(home, "serve", "node") == [started.pid]
                assert processes(home, "node") == processes(Home(tmp_path / "other"), "serve") == []
                break
        finally:
            started.kill()
            started.wait()
    else:
        pytest.fail("it held its role before it could be stopped, ten times")
    assert processes(home, "serve") == []


def test_changes_of_a_home_wait_for_each_other_although_each_removes_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    inside: list[int] = []

    def change(number: int) -> None:
        for _ in range(20):
            with changing(home):
                inside.append(number)
                assert inside == [number]
                time.sleep(0.001)
                inside.remove(number)

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(change, number) for number in range(4)]:
            done.result(timeout=30)
    assert not home.path.exists()


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("dns", {"pilotfish.apiserver", "pilotfish.xds", "pilotfish.client", "pilotfish.pki", "pyroute2", "uvicorn"}),
        (
            "node",
            {"pilotfish.apiserver", "pilotfish.controllers", "pilotfish.mesh", "pilotfish.store", "pilotfish.xds"},
        ),
        ("supervise", {"pilotfish.apiserver", "pilotfish.node", "pilotfish.client", "grpc"}),
    ],
)
def test_a_process_loads_what_its_role_needs(module: str, unneeded: set[str]) -> None:
    """The time to load is the time that a killed process is missing, and the memory is there for its life."""
    program = f"import sys, pilotfish.cli.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not unneeded & set(loaded)
