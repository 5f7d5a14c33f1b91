"""Reports as far as a proxy can send them: to collectors that are hosts which it sees."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pilotfish.mesh.reporting import AccessLog, Collector, FileLog, OtelTracer, Reporting, Tracer

Find = Callable[[Collector], Collector | None]
"""The host that a collector's name means, with its name in full and no namespace; None where there is none."""


def reachable(reporting: Reporting, find: Find) -> Reporting:
    """What is left of the reports when those are left out whose collector is not found.

    Envoy refuses a listener that reports to a cluster that it does not have.
    """
    if not reporting.collectors():
        return reporting
    tracing = reporting.tracing
    if tracing is not None:
        tracer = _found(tracing.tracer, find)
        tracing = msgspec.structs.replace(tracing, tracer=tracer) if tracer is not None else None
    logs = tuple(log for log in (_reachable(log, find) for log in reporting.logs) if log is not None)
    return msgspec.structs.replace(reporting, logs=logs, tracing=tracing)


def _found(tracer: Tracer, find: Find) -> Tracer | None:
    collector = find(tracer.collector)
    if collector is None:
        return None
    if isinstance(tracer, OtelTracer) and tracer.sampler is not None and tracer.sampled_by is not None:
        sampled_by = find(tracer.sampled_by)
        if sampled_by is None:
            return None
        sampler = msgspec.structs.replace(tracer.sampler, collector=sampled_by)
        tracer = msgspec.structs.replace(tracer, sampler=sampler)
    return msgspec.structs.replace(tracer, collector=collector)


def _reachable(log: AccessLog, find: Find) -> AccessLog | None:
    if isinstance(log.sink, FileLog):
        return log
    collector = find(log.sink.collector)
    if collector is None:
        return None
    return msgspec.structs.replace(log, sink=msgspec.structs.replace(log.sink, collector=collector))
