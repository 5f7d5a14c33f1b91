"""The one place that runs `nft`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from pilotfish.node import netns as namespaces

_TIMEOUT = 30.0  # seconds; a script takes milliseconds, but another program may hold the kernel's lock
_ERROR_LINES = 12


class NftError(Exception):
    """nft refused a script. The text is nft's own, which quotes the lines that it is about."""


def run_nft(script: str, netns: Path | None = None) -> str:
    """Applies a script in one transaction, in the namespace at a path or the caller's own; returns what nft printed.

    Raises NftError when nft is missing, refuses the script, or does not answer in time. Blocks.
    """
    arguments = ["--file", "/dev/stdin"]
    return _run(arguments, script) if netns is None else namespaces.run_in(netns, lambda: _run(arguments, script))


def query_nft(command: str) -> list[dict[str, Any]]:
    """The objects that a list command prints, in the caller's own namespace (libnftables-json(5)). Blocks."""
    listed: list[dict[str, Any]] = json.loads(_run(["--json", "--handle", command]))["nftables"]
    return listed


def tables(prefix: str) -> list[str]:
    """The names of the `inet` tables of the caller's namespace that begin so."""
    listed = (line.split() for line in run_nft("list tables inet").splitlines())
    return [words[2] for words in listed if words[2].startswith(prefix)]


def replace_table(name: str, body: str) -> str:
    """A script that replaces an `inet` table, which may or may not exist, in one transaction."""
    return f"table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n{body}}}\n"


def nft_program() -> str | None:
    """Where nft is, or None. Ordinary users' PATH leaves out the folders that it is in."""
    return shutil.which("nft", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")


def _run(arguments: list[str], script: str = "") -> str:
    program = nft_program()
    if program is None:
        raise NftError("the program nft is not installed; install it, for example with: apt-get install nftables")
    try:
        done = subprocess.run(
            [program, *arguments],
            input=script,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NftError(f"nft did not finish within {_TIMEOUT:.0f} seconds") from None
    if done.returncode != 0:
        first = done.stderr.strip().splitlines()[:_ERROR_LINES]  # one mistake often makes many errors
        raise NftError("\n".join(["nft refused the rules:", *first]))
    return done.stdout
