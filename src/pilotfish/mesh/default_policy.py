"""What holds for hosts of which no DestinationRule says it (MeshConfig: defaultTrafficPolicy)."""

from __future__ import annotations

from collections.abc import Iterator

from pilotfish.api.errors import FieldError
from pilotfish.api.istio_validation.connection_pool import connection_pool
from pilotfish.api.istio_validation.destination_rule import outlier_detection
from pilotfish.api.meta import Struct
from pilotfish.api.networking.connection_pool import ConnectionPoolSettings
from pilotfish.api.networking.destination_rule import OutlierDetection


class DefaultTrafficPolicy(Struct):
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None


NOTHING_SAID = DefaultTrafficPolicy()


def faults(policy: DefaultTrafficPolicy, path: str) -> Iterator[FieldError]:
    """What is wrong with it, below a path."""
    yield from connection_pool(f"{path}.connectionPool", policy.connection_pool)
    if policy.outlier_detection is not None:
        yield from outlier_detection(f"{path}.outlierDetection", policy.outlier_detection)
