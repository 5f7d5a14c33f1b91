"""`pilotfish serve` with an observer of what proxies acknowledge: `python -m benchmarks.observed HOME`.

The process is what `pilotfish serve` is, put together by the same function; its observer of ADS streams is one that
also answers on the standard streams. A line {"expect": [[type URL, name], …], "count": n} is answered with [] at once,
and with the times (monotonic seconds) of the acknowledgements once each resource has been acknowledged n times.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from pilotfish.cli import process
from pilotfish.cli import serve as room
from pilotfish.home import Home
from pilotfish.xds.blame import Blame
from pilotfish.xds.source import ProxyNode
from pilotfish.xds.status import Versions


class Request(msgspec.Struct, frozen=True):
    expect: tuple[tuple[str, str], ...]
    count: int


class Observer(Blame):
    """The control plane's own observer, and the clock."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._missing: Counter[tuple[str, str]] = Counter()
        self._times: list[float] = []
        os.set_blocking(0, False)
        asyncio.get_running_loop().add_reader(0, self._expect)

    def _expect(self) -> None:
        line = os.read(0, 65536)
        if not line:
            asyncio.get_running_loop().remove_reader(0)
            return
        request = msgspec.json.decode(line, type=Request)
        self._missing = Counter(dict.fromkeys(request.expect, request.count))
        self._times = []
        _answer([])

    def acknowledged(self, node: ProxyNode, type_url: str, versions: Versions) -> None:
        super().acknowledged(node, type_url, versions)
        if not self._missing:
            return
        for key in [key for key in self._missing if key[0] == type_url and key[1] in versions]:
            self._times.append(time.monotonic())
            self._missing[key] -= 1
            if not self._missing[key]:
                del self._missing[key]
        if not self._missing:
            _answer(self._times)


def _answer(times: list[float]) -> None:
    os.write(1, msgspec.json.encode(times) + b"\n")


def main() -> None:
    process.configure_logging()
    setattr(room, "Blame", Observer)  # noqa: B010 - the one part that differs
    home = Home(Path(sys.argv[1]))
    with process.hold(home, process.SERVE):
        uvloop.run(room.serve(home))


if __name__ == "__main__":
    main()
