"""By what the parts of a workload that has joined from outside any pod know each other: annotations and metadata.

A joined workload has a WorkloadEntry, and a pod that holds nothing but its proxy: its *front*, which has the
workload's address.
"""

from __future__ import annotations

AUTO_REGISTRATION_GROUP = "istio.io/autoRegistrationGroup"
"""Annotation of a WorkloadEntry that was made from a WorkloadGroup: the group's name (Istio)."""

HEALTH_CHECKED = "proxy.istio.io/health-checks-enabled"
"""Annotation of a WorkloadEntry that is in service only while its condition HEALTHY is true (Istio)."""

HEALTHY = "Healthy"

JOINED_BY = "pilotfish.dev/joined-by"
"""Annotation of a front: which process on the node it is there for, by the name of a lock that this holds."""

HOST_PROCESS = "pilotfish.dev/host-process"
"""Annotation "true" of a front behind which a process on the host's own network stands."""

WORKLOAD_ENTRY = "WORKLOAD_ENTRY"
"""Metadata of a proxy whose workload is no pod: the name of its WorkloadEntry (Istio's NodeMetadata)."""

WORKLOAD_ADDRESS = "PILOTFISH_WORKLOAD_ADDRESS"
"""Metadata of a proxy whose workload listens elsewhere than at the proxy's own address: there."""
