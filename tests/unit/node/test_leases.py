"""A lock lives as long as its holder, however that ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pilotfish.home import Home
from pilotfish.node import leases

HOLDER = """
import sys
from pathlib import Path
from pilotfish.home import Home
from pilotfish.node import leases
with leases.hold(Home(Path(sys.argv[1]))) as name:
    print(name, flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_held_while_its_context_lasts(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with leases.hold(home) as one, leases.hold(home) as other:
        assert one != other
        assert leases.held(home, one) and leases.held(home, other)
    assert not leases.held(home, one)
    assert not list((home.run / "joins").iterdir())
    assert not leases.held(home, "unknown")


def test_a_lock_goes_with_a_holder_that_is_killed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        name = holder.stdout.readline().strip()
        assert leases.held(home, name)
        holder.kill()
        holder.wait()
    assert not leases.held(home, name)
