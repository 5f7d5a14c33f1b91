"""The cache: one entry for equal specs, built once, gone when nobody holds it."""

from __future__ import annotations

import gc
from typing import ClassVar

import pytest

from pilotfish.mesh.records import Record
from pilotfish.xds.entries import Resources, _entries, entry

BUILT: list[str] = []


class ExampleSpec(Record):
    type_url: ClassVar[str] = "example"
    name: str
    text: str

    def body(self) -> bytes:
        BUILT.append(self.text)
        return self.text.encode()


def test_equal_specs_share_one_resource() -> None:
    BUILT.clear()
    one, other = entry(ExampleSpec("n", "same")), entry(ExampleSpec("n", "same"))
    assert one is other
    assert BUILT == [], "nobody has asked for it"
    assert one.resource is other.resource
    assert BUILT == ["same"]
    assert one.resource.version == "b9a8ca9848bf6e1d", "the same in every process"
    assert entry(ExampleSpec("n", "else")).resource.version != one.resource.version


def test_what_nobody_holds_is_forgotten() -> None:
    held = entry(ExampleSpec("n", "forgotten"))
    assert held.resource.body == b"forgotten"
    del held
    gc.collect()
    assert not [spec for spec in _entries if isinstance(spec, ExampleSpec) and spec.text == "forgotten"]


def test_resources_over_several_maps() -> None:
    a, b = entry(ExampleSpec("a", "a")), entry(ExampleSpec("b", "b"))
    found = Resources({"a": a}, {"b": b})
    assert dict(found) == {"a": a.resource, "b": b.resource}
    assert len(found) == 2
    assert "c" not in found
    with pytest.raises(KeyError):
        found["c"]
