"""How a policy has requests tried again (Istio: pilot/pkg/networking/core/route/retry)."""

from __future__ import annotations

import http

from pilotfish.api.durations import seconds
from pilotfish.api.networking.http_route import HTTPRetry
from pilotfish.xds.build.retries import RETRY_ON, Retries


def retries_of(policy: HTTPRetry | None, default: Retries | None) -> Retries | None:
    """How requests are tried again; None for not at all. `default` is what holds where there is no policy."""
    if policy is None:
        return default
    if policy.attempts <= 0:
        return None
    words = [word.strip() for word in policy.retry_on.split(",") if word.strip()]
    codes = tuple(int(word) for word in words if _is_status(word))
    conditions = [word for word in words if not _is_status(word)]
    if codes and "retriable-status-codes" not in conditions:
        conditions.append("retriable-status-codes")
    return Retries(
        attempts=policy.attempts,
        conditions=",".join(conditions) if words else RETRY_ON,
        codes=codes,
        try_timeout=seconds(policy.per_try_timeout),
        other_hosts=policy.retry_ignore_previous_hosts is not False,
        other_localities=bool(policy.retry_remote_localities),
        back_off=seconds(policy.backoff),
    )


def _is_status(word: str) -> bool:
    return word.isdecimal() and int(word) in {status.value for status in http.HTTPStatus}
