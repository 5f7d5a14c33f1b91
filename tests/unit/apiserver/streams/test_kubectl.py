"""Stock kubectls of several releases, old ones over SPDY and new ones over WebSockets, against a real pod."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotfish.node import sandbox

pytestmark = pytest.mark.root

Register = Callable[[subprocess.Popen[bytes]], subprocess.Popen[bytes]]
TEN_MEGABYTES = random.Random(1).randbytes(10_000_000)


def kubectls() -> list[str]:
    """The kubectl of the PATH, or the releases that lie beside it (as `kubectl.1.27`) where they differ in protocol."""
    found = shutil.which("kubectl")
    if found is None:
        return []
    beside = Path(found).resolve().parent
    releases = [str(beside / f"kubectl.{release}") for release in ("1.27", "1.30", "1.33")]
    return [path for path in releases if Path(path).exists()] or [found]


@pytest.fixture(params=kubectls() or [pytest.param("", marks=pytest.mark.skip("no kubectl here"))])
def kubectl(request: pytest.FixtureRequest) -> str:
    binary: str = request.param
    return binary


def test_logs(stream_mesh: Any, kubectl: str, wait_for: Callable[..., None]) -> None:
    def logs(*arguments: str) -> str:
        done = stream_mesh.run(kubectl, "logs", *arguments)
        assert done.returncode == 0, done.stderr
        text: str = done.stdout.decode()
        return text

    wait_for(lambda: "line 3" in logs("web", "-c", "counter"))
    assert logs("web", "-c", "counter").startswith("line 1\nline 2\n")
    assert re.fullmatch(r"line \d+\nline \d+\n", logs("web", "-c", "counter", "--tail=2"))
    assert logs("web", "-c", "counter", "--tail=0") == ""
    assert logs("web", "-c", "counter", "--limit-bytes=5") == "line "
    stamped = logs("web", "-c", "counter", "--tail=1", "--timestamps")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line \d+\n", stamped)
    assert logs("web", "-c", "counter", "--since-time=2099-01-01T00:00:00Z") == ""
    assert "line" in logs("web", "-c", "counter", "--since=1h")
    assert "Server started.\n" in logs("-l", "app=web", "-c", "app")
    everything = logs("web", "--all-containers", "--prefix", "--tail=1")
    assert "[pod/web/app] " in everything
    assert "[pod/web/counter] line" in everything


def test_logs_that_there_are_not(stream_mesh: Any, kubectl: str) -> None:
    def refused(*arguments: str) -> str:
        done = stream_mesh.run(kubectl, *arguments)
        assert done.returncode == 1
        text: str = done.stderr.decode()
        return text

    assert 'container "app" in pod "waiting" is waiting to start: ContainerCreating' in refused("logs", "waiting")
    assert 'previous terminated container "app" in pod "web" not found' in refused("logs", "-p", "web", "-c", "app")
    assert "container none is not valid for pod web" in refused("logs", "web", "-c", "none")
    assert 'pods "nobody" not found' in refused("logs", "nobody")
    assert "error dialing backend: " in refused("logs", "lost")
    assert "error dialing backend: " in refused("exec", "lost", "--", "true")
    assert 'pods "nobody" not found' in refused("exec", "nobody", "--", "true")
    assert "does not run on this node" in refused("exec", "waiting", "--", "true")


def test_a_followed_log_grows(stream_mesh: Any, kubectl: str, ended: Register) -> None:
    following = ended(
        stream_mesh.popen(kubectl, "logs", "-f", "--tail=1", "web", "-c", "counter", stdout=subprocess.PIPE)
    )
    assert following.stdout is not None
    numbers = [int(following.stdout.readline().split()[1]) for _ in range(10)]
    assert numbers == list(range(numbers[0], numbers[0] + 10))


def test_exec_tells_output_and_exit_code_apart(stream_mesh: Any, kubectl: str) -> None:
    script = "echo $GREETING; echo oh >&2; exit 7"
    done = stream_mesh.run(kubectl, "exec", "web", "-c", "app", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (7, b"hello\n")
    assert done.stderr.splitlines() == [b"oh", b"command terminated with exit code 7"]
    done = stream_mesh.run(kubectl, "exec", "web", "-c", "app", "--", "true")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = stream_mesh.run(kubectl, "exec", "web", "-c", "app", "--", "nosuch")
    assert done.returncode == 1
    assert b"'nosuch': executable file not found in $PATH" in done.stderr


def test_much_input_arrives_whole_and_its_end_too(stream_mesh: Any, kubectl: str) -> None:
    done = stream_mesh.run(
        kubectl, "exec", "-i", "web", "-c", "app", "--", "sha256sum", stdin=TEN_MEGABYTES, timeout=60
    )
    assert done.stdout.split()[0].decode() == hashlib.sha256(TEN_MEGABYTES).hexdigest()


def test_much_output_arrives_whole_however_slowly_it_is_read(stream_mesh: Any, kubectl: str, ended: Register) -> None:
    command = ("exec", "web", "-c", "app", "--", "head", "-c", "20000000", "/dev/zero")
    reading = ended(stream_mesh.popen(kubectl, *command, stdout=subprocess.PIPE))
    time.sleep(0.5)  # meanwhile everything on the way fills up
    assert reading.stdout is not None
    assert len(reading.stdout.read()) == 20_000_000
    assert reading.wait(10) == 0


def test_input_that_nobody_reads_does_no_harm(stream_mesh: Any, kubectl: str) -> None:
    done = stream_mesh.run(kubectl, "exec", "-i", "web", "-c", "app", "--", "head", "-c", "3", stdin=TEN_MEGABYTES)
    assert done.stdout == TEN_MEGABYTES[:3]
    assert done.returncode == 0


def test_cp(stream_mesh: Any, kubectl: str, tmp_path: Path) -> None:
    source, there, back = tmp_path / "source", tmp_path / "there", tmp_path / "back"
    source.write_bytes(TEN_MEGABYTES[:3_000_000])
    for arguments in ((str(source), f"web:{there}"), (f"web:{there}", str(back))):
        done = stream_mesh.run(kubectl, "cp", "-c", "app", *arguments)
        assert done.returncode == 0, done.stderr
    assert back.read_bytes() == source.read_bytes()


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, command: list[str]) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execv(command[0], command)
        self._said = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.descriptor, 4096)
            except OSError:
                return
            if not data:
                return
            self._said += data

    def said(self) -> str:
        return self._said.decode()

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def exit_code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it has ended, and its exit code was taken
        self._reader.join(5)
        os.close(self.descriptor)


@pytest.fixture
def terminal() -> Iterator[Callable[[list[str]], Terminal]]:
    opened: list[Terminal] = []

    def open_one(command: list[str]) -> Terminal:
        opened.append(Terminal(command))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def test_a_terminal(
    stream_mesh: Any, kubectl: str, wait_for: Callable[..., None], terminal: Callable[[list[str]], Terminal]
) -> None:
    script = 'tty; while read -r x; do echo "got $x"; stty size; done; exit 5'
    command = stream_mesh.kubectl(kubectl, "exec", "-it", "web", "-c", "app", "--", "sh", "-c", script)
    shell = terminal(command)
    wait_for(lambda: "/dev/pts/" in shell.said())
    shell.type("one\n")
    wait_for(lambda: "got one" in shell.said())
    shell.resize(101, 33)

    def sees_the_size() -> bool:
        shell.type("\n")
        return "33 101" in shell.said()

    wait_for(sees_the_size)
    shell.type("\x04")
    assert shell.exit_code() == 5


def test_attach_sees_what_comes_and_is_heard(
    stream_mesh: Any, kubectl: str, wait_for: Callable[..., None], ended: Register
) -> None:
    attached = ended(
        stream_mesh.popen(
            kubectl, "attach", "-i", "web", "-c", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    )  # fmt: skip
    assert attached.stdin is not None
    assert attached.stdout is not None
    word = f"hello from {Path(kubectl).name}\n".encode()
    answers: list[bytes] = []
    listening = threading.Thread(target=lambda: answers.append(attached.stdout.readline()))
    listening.start()
    # Attached to is a container that runs: what was said before is not heard, and when that was only it knows.
    while listening.is_alive():
        attached.stdin.write(word)
        attached.stdin.flush()
        listening.join(0.2)
    assert answers == [word]


def test_port_forward(
    stream_mesh: Any, kubectl: str, wait_for: Callable[..., None], ended: Register, tmp_path: Path
) -> None:
    output = tmp_path / "said"
    with output.open("wb") as file:
        forwarding = ended(stream_mesh.popen(kubectl, "port-forward", "pod/web", ":8080", stdout=file, stderr=file))
    wait_for(lambda: b"-> 8080" in output.read_bytes() or forwarding.poll() is not None)
    found = re.search(r"127\.0\.0\.1:(\d+) -> 8080", output.read_text())
    assert found, output.read_text()
    url = f"http://127.0.0.1:{found[1]}"
    fetch = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def get(path: str) -> bytes:
        with fetch(url + path, timeout=10) as response:
            body: bytes = response.read()
            return body

    assert get("/hi") == b"/hi"
    assert get("/big") == b"/big" * 200_000
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda n=n: answers.append(get(f"/{n}"))) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [f"/{n}".encode() for n in range(5)]


def test_a_port_that_nobody_serves_is_told(
    stream_mesh: Any, kubectl: str, wait_for: Callable[..., None], ended: Register, tmp_path: Path
) -> None:
    output = tmp_path / "said"
    with output.open("wb") as file:
        ended(stream_mesh.popen(kubectl, "port-forward", "pod/web", ":9", stdout=file, stderr=file))
    wait_for(lambda: b"-> 9" in output.read_bytes())
    found = re.search(r"127\.0\.0\.1:(\d+) -> 9", output.read_text())
    assert found
    with pytest.raises(OSError):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{found[1]}/", timeout=10)
    wait_for(lambda: b"failed to connect to localhost:9 inside the pod: Connection refused" in output.read_bytes())


@pytest.mark.parametrize(("busy", "unread"), [(False, 0), (True, 0), (False, 600_000)])
def test_a_client_that_is_killed_takes_its_process_along(
    stream_mesh: Any,
    kubectl: str,
    wait_for: Callable[..., None],
    ended: Register,
    tmp_path: Path,
    busy: bool,
    unread: int,
) -> None:
    note = tmp_path / "pid"
    script = f"echo started > {note}; exec {'cat /dev/zero' if busy else 'sleep 1000'} # {note}"
    command = ("exec", "-i", "web", "-c", "app", "--", "sh", "-c", script)
    with tempfile.TemporaryFile() as source:
        source.write(b"x" * unread)
        source.seek(0)
        client = ended(stream_mesh.popen(kubectl, *command, stdin=source, stdout=subprocess.PIPE))
    wait_for(note.exists)

    def running() -> bool:
        supervisors = _children_of(stream_mesh.pod)
        return any(argument in ("cat\0/dev/zero\0", "sleep\x001000\0") for argument in supervisors)

    wait_for(running)
    client.kill()
    wait_for(lambda: not running())


def _children_of(pod: Any) -> list[str]:
    """The command lines of what the pod's supervisor has started."""
    parent = sandbox.supervisor_pid(pod)
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append((entry / "cmdline").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
