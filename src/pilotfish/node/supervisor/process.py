"""Starting one process inside the pod: user, working directory, terminal and standard streams."""

from __future__ import annotations

import os
import signal
from typing import Any


class StartError(Exception):
    """The process could not be started; says what failed, in the words that container runtimes use."""


def start(spec: dict[str, Any], streams: tuple[int, int, int], terminal: bool) -> int:
    """Start `spec["argv"]` as a session of its own and return its pid. Raises StartError.

    `spec` has argv, env (a mapping), and optionally cwd, uid, gid and groups. The three descriptors become standard
    input, output and error; with `terminal` the first is a terminal and becomes the controlling one.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _child(spec, streams, terminal, writer)
    os.close(writer)
    with open(reader, "rb") as failure:
        message = failure.read()
    if message:
        os.waitpid(pid, 0)
        raise StartError(message.decode())
    return pid


def _child(spec: dict[str, Any], streams: tuple[int, int, int], terminal: bool, failure: int) -> None:
    """What happens between fork and exec; never returns."""
    program = spec["argv"][0]
    what = f"exec: {program!r}"
    try:
        os.setsid()
        # Clear of 0 to 2 first, so that placing one stream cannot overwrite another.
        safe = [os.dup(stream) for stream in streams]
        while any(descriptor < 3 for descriptor in safe):
            safe = [os.dup(descriptor) for descriptor in safe]
        for target, source in enumerate(safe):
            os.dup2(source, target)
            os.close(source)
        if terminal:
            import fcntl
            import termios

            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.set_blocking(0, True)
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP) and not 32 <= number < signal.SIGRTMIN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        _become(spec)
        directory = spec.get("cwd", "/")
        what = f"chdir to {directory!r}"
        os.chdir(directory)
        what = f"exec: {program!r}"
        os.execvpe(program, spec["argv"], spec["env"])
    except OSError as error:
        missing = isinstance(error, FileNotFoundError) and what.startswith("exec") and "/" not in program
        os.write(failure, f"{what}: {'executable file not found in $PATH' if missing else error.strerror}".encode())
    except (LookupError, TypeError, ValueError) as error:
        os.write(failure, f"the request to start {program!r} is malformed: {error!r}".encode())
    finally:
        os._exit(127)


def _become(spec: dict[str, Any]) -> None:
    uid, gid = spec.get("uid"), spec.get("gid")
    if uid is None and gid is None:
        return
    # What it opens again as /dev/stdout (Envoy's access log does) must be its own, as container runtimes see to.
    for stream in (0, 1, 2):
        os.fchown(stream, -1 if uid is None else uid, -1 if gid is None else gid)
    os.setgroups(spec.get("groups") or ([gid] if gid is not None else []))
    if gid is not None:
        os.setgid(gid)
    if uid is not None:
        os.setuid(uid)


def kill_session(session: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to every process of a session. /proc is the pod's own, so this looks at a handful of entries."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            if int(fields[3]) == session:
                os.kill(int(entry), number)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
