"""How long a proxy on demand keeps what its workload does not use, and what follows from that.

What was not used for the idle time is withdrawn (`pilotfish.xds.usage`). So nothing that a proxy holds open may be idle
for longer: a request on an HTTP connection that was kept alive would find its virtual host gone. And what a proxy asks
for by an address is called by another name each period: Envoy asks once for a name and not again after it was
withdrawn (https://github.com/envoyproxy/envoy/pull/47201), but it has no use for the names of a period that is over.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
from functools import lru_cache

from pilotfish.api.demand import IDLE_ANNOTATION, IDLE_METADATA, chosen
from pilotfish.api.durations import parse_duration
from pilotfish.xds.build.http_settings import AS_EVER, HttpSettings
from pilotfish.xds.build.on_demand import OnDemand
from pilotfish.xds.source import ProxyNode

log = logging.getLogger("pilotfish.xds")

DEFAULT = 24 * 3600.0
"""What a workload does every day stays; and it is far above the hour after which Envoy closes what is idle."""
SHORTEST = 1.0

REPORTS = 10
"""How many reports of use there are in an idle time, at least."""
LONGEST_INTERVAL = 600.0

_HTTP_IDLE = 3600.0
"""After what time Envoy closes an idle HTTP connection by itself."""
_PERIODS = ((86400.0, "%Y%m%d"), (3600.0, "%Y%m%d%H"), (60.0, "%Y%m%d%H%M"), (1.0, "%Y%m%d%H%M%S"))


def idle_time(node: ProxyNode) -> float:
    """The seconds after which what a proxy's workload does not use is withdrawn; 0 is never."""
    return _seconds(chosen(node.metadata, IDLE_ANNOTATION, IDLE_METADATA))


@lru_cache(maxsize=256)
def _seconds(text: str) -> float:
    """What a text means is asked with every report, and what is wrong with it told once."""
    if not text:
        return DEFAULT
    try:
        seconds = float(parse_duration(text))
    except ValueError as error:
        log.warning("an idle timeout is passed over, and is %g s instead: %s", DEFAULT, error)
        return DEFAULT
    return max(seconds, SHORTEST) if seconds > 0 else 0.0


def report_interval(idle: float) -> float:
    """How many seconds pass between two reports of what a proxy uses; 0: there is nothing to report."""
    return min(idle / REPORTS, LONGEST_INTERVAL)


def terms(idle: float, ranges: tuple[str, ...], http: HttpSettings = AS_EVER) -> OnDemand:
    """How a proxy with this idle time asks about addresses in these ranges. `http` says how long connections may idle
    by themselves.
    """
    said = http.connections.http_idle_timeout
    longest = _HTTP_IDLE if said is None else said or math.inf
    # The longest period that has passed in any idle time: a name that is withdrawn is not asked for again.
    period = next((text for seconds, text in _PERIODS if seconds <= idle), "")
    return OnDemand(ranges, period, idle if 0 < idle < longest else 0.0)


def is_over(period: str, now: float) -> bool:
    """Whether nobody asks for names of a period any more at a time in seconds since 1970: it is not the present one nor
    the one before or after, since clocks differ.
    """
    around = _around(period, now)
    return around is not None and period not in around


def next_period(period: str, now: float) -> str | None:
    """The period after one that is present at a time in seconds since 1970; None for any other."""
    _, present, following = _around(period, now) or ("", "", "")
    return following if period and period == present else None


def _around(period: str, now: float) -> tuple[str, str, str] | None:
    """The last period at a time, the present one and the next, of the same kind as one; None where it is none."""
    for length, text in _PERIODS:
        last, present, following = (f"{_START + dt.timedelta(seconds=now + d * length):{text}}" for d in (-1, 0, 1))
        if len(present) == len(period):
            return last, present, following
    return None


_START = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
