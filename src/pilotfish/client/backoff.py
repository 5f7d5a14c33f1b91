"""How long to wait before the next try."""

from __future__ import annotations

import random
from collections.abc import Iterator


def backoff(first: float = 0.05, most: float = 10.0) -> Iterator[float]:
    """Seconds to wait before each next try: doubling from `first` up to `most`, without end.

    Each is spread over its upper half, so that many who lost the same server do not come back at the same moment.
    Take a new one after a success.
    """
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, most)
