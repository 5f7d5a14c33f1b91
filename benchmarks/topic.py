"""What every topic is given."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.report import Section

log = logging.getLogger("benchmarks")


@dataclass(frozen=True)
class Options:
    """`full` takes the sizes and numbers of rounds of the page of results; else what fits into ten minutes."""

    full: bool = False
    seconds: int | None = None
    """For how long a topic runs that takes as long as it is given."""
    seed: int | None = None
    """Of what is random; None: another one each time."""

    def pick(self, short: int, full: int) -> int:
        return full if self.full else short


Topic = Callable[[Options], Iterator[Section]]


class Missing(Exception):
    """The machine lacks something that a topic needs; the message says what, and how to get it."""
