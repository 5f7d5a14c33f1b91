from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import pytest

from pilotfish.node import logs
from pilotfish.node.logs import LogOptions
from pilotfish.node.sandbox import PodFolder
from pilotfish.node.supervisor.crilog import MAX_LINE, LineWriter, LogFile, stamp


def text(path: Path, **options: object) -> str:
    async def everything() -> bytes:
        return b"".join([piece async for piece in logs.read(path, LogOptions(**options))])  # type: ignore[arg-type]

    return asyncio.run(everything()).decode()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    lines = [f"2021-11-05T09:21:{second:02d}.000000001Z stdout F line {second}" for second in range(10)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_what_was_written_is_read_with_what_was_asked_for(log: Path) -> None:
    assert text(log).startswith("line 0\nline 1\n")
    assert text(log, tail_lines=2) == "line 8\nline 9\n"
    assert text(log, tail_lines=0) == ""
    assert text(log, tail_lines=1, timestamps=True) == "2021-11-05T09:21:09.000000001Z line 9\n"
    assert text(log, limit_bytes=9) == "line 0\nli"
    since = dt.datetime(2021, 11, 5, 9, 21, 8, tzinfo=dt.UTC)
    assert text(log, since=since) == "line 8\nline 9\n"
    assert text(log.with_name("none.log")) == ""


def test_the_writer_cuts_stamps_and_joins_lines(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "0.log"
    file = LogFile(str(path))
    out, err = LineWriter(file, "stdout"), LineWriter(file, "stderr")
    out.feed(b"one\ntw")
    err.feed(b"bad\n")
    out.feed(b"o\n\n")
    out.feed(b"x" * (MAX_LINE + 5) + b"\n")
    out.feed(b"last")
    out.finish()
    parts = [line.split(" ", 3)[1:] for line in path.read_text().splitlines()]
    assert parts == [
        ["stdout", "F", "one"],
        ["stderr", "F", "bad"],
        ["stdout", "F", "two"],
        ["stdout", "F", ""],
        ["stdout", "P", "x" * MAX_LINE],
        ["stdout", "F", "xxxxx"],
        ["stdout", "F", "last"],
    ]
    assert text(path) == "one\nbad\ntwo\n\n" + "x" * (MAX_LINE + 5) + "\nlast\n"
    assert text(path, tail_lines=2) == "x" * (MAX_LINE + 5) + "\nlast\n"


def test_times_have_nanoseconds() -> None:
    assert stamp(1636104079_828123456) == "2021-11-05T09:21:19.828123456Z"


def test_a_followed_log_is_read_across_rotations_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    file = LogFile(str(path), max_bytes=400)
    writer = LineWriter(file, "stdout")
    over = False

    async def scenario() -> str:
        nonlocal over
        got: list[bytes] = []

        async def follow() -> None:
            async for piece in logs.read(path, LogOptions(follow=True), lambda: over):
                got.append(piece)

        async with asyncio.TaskGroup() as group:
            group.create_task(follow())
            for number in range(40):
                writer.feed(f"line {number}\n".encode())
                async with asyncio.timeout(5):
                    while b"".join(got).count(b"\n") <= number:
                        await asyncio.sleep(0.001)
            over = True
        return b"".join(got).decode()

    assert asyncio.run(scenario()) == "".join(f"line {number}\n" for number in range(40))
    assert path.with_name("0.log.1").exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["0.log", "0.log.1"]


def test_only_the_present_run_and_the_one_before_are_kept(tmp_path: Path) -> None:
    folder = PodFolder(tmp_path)
    for attempt in range(4):
        LogFile(str(folder.log("web", attempt)))
    logs.discard_old(folder, "web", 3)
    assert logs.latest_attempt(folder, "web") == 3
    assert logs.latest_attempt(folder, "web", previous=True) == 2
    assert not folder.log("web", 1).exists()
    assert logs.latest_attempt(folder, "other") is None
