"""One site of traffic a test process: its workloads start with the first test that asks for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from traffic.site import Site


@pytest.fixture(scope="session")
def site(mesh: Any) -> Iterator[Site]:
    """The workloads between which traffic flows, in a mesh that other end-to-end tests may share."""
    # Not pytest's folder, which is for its owner alone: proxies, which are another user, read certificates here.
    with tempfile.TemporaryDirectory(prefix="traffic-") as folder:
        Path(folder).chmod(0o755)
        found = Site(mesh, Path(folder))
        try:
            found.start()
            with found.outside():
                yield found
        finally:
            found.close()
