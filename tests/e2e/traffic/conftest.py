"""One site of traffic a test process: its workloads start with the first test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from traffic.site import Site


@pytest.fixture(scope="session")
def site(mesh: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The workloads between which traffic flows, in a mesh that other end-to-end tests may share."""
    found = Site(mesh, tmp_path_factory.mktemp("traffic"))
    try:
        found.start()
        with found.outside():
            yield found
    finally:
        found.close()
