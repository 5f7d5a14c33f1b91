"""`pilotfish exec`: streams and exit status, as processes with pipes, files and a terminal."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def pod(cli_mesh: Any) -> str:
    cli_mesh.pod("target")
    return "target"


def _finished(cli_mesh: Any, *argv: str, **options: Any) -> tuple[int, bytes, bytes]:
    process = cli_mesh.start("exec", *argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    with process:
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    return process.returncode, out, err


def test_output_error_and_exit_status_are_the_commands(cli_mesh: Any, pod: str) -> None:
    command = ("sh", "-c", "echo out; echo err >&2; exit 7")
    assert _finished(cli_mesh, pod, "-c", "proxy", "--", *command) == (7, b"out\n", b"err\n")
    assert cli_mesh.pods.asked[-1]["container"] == "proxy"
    assert _finished(cli_mesh, pod, "-c", "app", "--", "true") == (0, b"", b"")
    assert b'Defaulted container "app" out of: app, proxy' in _finished(cli_mesh, pod, "--", "true")[2]


def test_input_from_a_pipe_a_file_and_nothing(cli_mesh: Any, pod: str, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    file = tmp_path / "content"
    file.write_bytes(content)
    with subprocess.Popen(["cat", str(file)], stdout=subprocess.PIPE) as piping:
        assert _finished(cli_mesh, "-i", pod, "-c", "app", "--", "cat", stdin=piping.stdout) == (0, content, b"")
    with file.open("rb") as source:
        assert _finished(cli_mesh, "-i", pod, "-c", "app", "--", "cat", stdin=source) == (0, content, b"")
    done = _finished(cli_mesh, "-i", pod, "-c", "app", "--", "cat", stdin=subprocess.DEVNULL)
    assert done == (0, b"", b"")


def test_a_command_that_ends_does_not_wait_for_input(cli_mesh: Any, pod: str) -> None:
    source, sink = os.pipe()
    try:
        assert _finished(cli_mesh, "-i", pod, "-c", "app", "--", "false", stdin=source)[0] == 1
    finally:
        os.close(source)
        os.close(sink)


def test_what_cannot_run_is_told(cli_mesh: Any, pod: str) -> None:
    code, _, err = _finished(cli_mesh, pod, "-c", "app", "--", "vanish")
    assert (code, err) == (1, b"Error: (InternalError): no such command\n")
    code, _, err = _finished(cli_mesh, "nobody", "--", "true")
    assert (code, err) == (1, b'Error: (NotFound): pods "nobody" not found\n')


def test_a_terminal_needs_one_of_ours(cli_mesh: Any, pod: str) -> None:
    code, _, err = _finished(cli_mesh, "-it", pod, "-c", "app", "--", "true", stdin=subprocess.DEVNULL)
    assert code == 0
    assert err.startswith(b"Unable to use a TTY - input is not a terminal")


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a terminal: ours, and that of the process in it."""
    ours, theirs = os.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def _resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def test_a_terminal_passes_keys_and_sizes_on_and_is_as_it_was(
    cli_mesh: Any, pod: str, terminal: tuple[int, int], wait_until: Any, ended: Callable[..., Any]
) -> None:
    ours, theirs = terminal
    _resize(ours, 33, 77)
    before = termios.tcgetattr(theirs)
    seen = bytearray()
    os.set_blocking(ours, False)

    def saw(text: bytes) -> bool:
        try:
            seen.extend(os.read(ours, 10_000))
        except BlockingIOError:
            return text in seen
        return text in seen

    process: subprocess.Popen[bytes] = ended(
        cli_mesh.start("exec", "-it", pod, "-c", "app", "--", "sh", stdin=theirs, stdout=theirs, stderr=theirs)
    )
    wait_until(lambda: saw(b"""RESIZE b'{"Width":77,"Height":33}'"""), "the first size")
    _resize(ours, 20, 100)
    process.send_signal(signal.SIGWINCH)
    wait_until(lambda: saw(b"""RESIZE b'{"Width":100,"Height":20}'"""), "the next size")
    os.write(ours, b"a")
    wait_until(lambda: saw(b"STDIN b'a'"), "a key, without Enter")
    os.write(ours, b"\x03")
    assert process.wait(10) == 130
    assert termios.tcgetattr(theirs) == before
