"""What is said of an object of a kind: path → message."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from pilotfish.api.decode import decode
from pilotfish.api.errors import FieldError
from pilotfish.api.kinds import SCHEME
from pilotfish.api.scheme import AnyKind

Say = Callable[..., dict[str, str]]


def typed(word: str, spec: Any, name: str) -> tuple[AnyKind, Any]:
    kind = SCHEME.search(word)
    assert kind is not None
    return kind, decode(kind, {"metadata": {"name": name, "namespace": "shop"}, "spec": spec})


def by_path(said: Iterable[FieldError]) -> dict[str, str]:
    return {one.path: one.message for one in said}


@pytest.fixture
def faults() -> Say:
    """`faults("virtualservice", spec)`."""

    def say(word: str, spec: Any, name: str = "x") -> dict[str, str]:
        kind, obj = typed(word, spec, name)
        return by_path(kind.validate(obj))

    return say


@pytest.fixture
def warnings() -> Say:
    """`warnings("virtualservice", spec)`, for a spec without faults."""

    def say(word: str, spec: Any, name: str = "x") -> dict[str, str]:
        kind, obj = typed(word, spec, name)
        assert by_path(kind.validate(obj)) == {}
        return by_path(kind.warn(obj))

    return say
