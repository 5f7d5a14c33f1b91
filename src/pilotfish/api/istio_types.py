"""What the kinds of Istio's API share: protobuf's JSON forms, selectors, and their status.

Durations are texts, google.protobuf's wrappers plain values or None, enums their names; of a oneof's fields, which a
type lists in `ONE_OF`, at most one is not None (istio/api type/v1beta1, meta/v1alpha1).
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from pilotfish.api.durations import FORM
from pilotfish.api.meta import Condition, Struct

Duration = Annotated[
    str,
    Meta(
        pattern=FORM,
        description='a duration: a number with a unit, such as "1.5s", "250ms" or "1h30m"',
    ),
]
"""A length of time (Go: time.ParseDuration)."""
UInt32 = Annotated[int, Meta(ge=0, le=2**32 - 1, description="a whole number from 0 to 4294967295")]
UInt64 = Annotated[int, Meta(ge=0, description="a whole number of at least 0")]
Percentage = Annotated[float, Meta(ge=0, le=100, description="a percentage from 0 to 100")]


class WorkloadSelector(Struct):
    """The workloads whose labels hold all of these; all of the namespace when there are none."""

    match_labels: dict[str, str] = {}


class PolicyTargetReference(Struct):
    """The object that a policy is for. `group` is "" for core kinds."""

    kind: str
    name: str
    group: str = ""
    namespace: str = ""


class IstioStatus(Struct):
    conditions: tuple[Condition, ...] = ()
    validation_messages: Any = None
    observed_generation: int | None = None
