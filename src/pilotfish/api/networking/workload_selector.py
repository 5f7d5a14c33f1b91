"""The selector of the older networking kinds (networking/v1alpha3/sidecar.proto)."""

from __future__ import annotations

from pilotfish.api.meta import Struct


class WorkloadSelector(Struct):
    """The workloads whose labels hold all of these; all of the namespace when there are none."""

    labels: dict[str, str] = {}
