"""Label indexes find what a scan of everything finds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.mesh.index import HostnameMap, LabelIndex, MultiMap, SelectorIndex
from pilotfish.mesh.records import Labels, labels_of

_labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3).map(labels_of)
_things = st.dictionaries(st.integers(0, 8), st.tuples(st.sampled_from("nm"), _labels), max_size=8)


@given(_things, _things, _labels)
@settings(deadline=None)
def test_select_and_matching(
    before: dict[int, tuple[str, Labels]], after: dict[int, tuple[str, Labels]], asked: Labels
) -> None:
    labelled: LabelIndex[int] = LabelIndex()
    selecting: SelectorIndex[int] = SelectorIndex()
    for index in (labelled, selecting):
        for thing, (namespace, labels) in before.items():
            index.put(thing, namespace, labels)
        for thing, (namespace, labels) in after.items():
            index.put(thing, namespace, labels)
        for thing in before.keys() - after.keys():
            index.discard(thing)
    having = {t for t, (n, labels) in after.items() if n == "n" and asked and set(asked) <= set(labels)}
    assert set(labelled.select("n", asked)) == having
    satisfied = {t for t, (n, labels) in after.items() if n == "n" and labels and set(labels) <= set(asked)}
    assert set(selecting.matching("n", asked)) == satisfied


def test_multi_map_forgets_empty_keys() -> None:
    found: MultiMap[str, int] = MultiMap()
    found.add("a", 2)
    found.add("a", 1)
    found.add("a", 2)
    assert found["a"] == (2, 1)
    assert found.count("a") == 2
    found.remove("a", 2)
    found.remove("a", 1)
    found.remove("b", 1)
    assert list(found) == []
    assert found["a"] == ()


def test_a_host_name_map_finds_what_means_a_host() -> None:
    values: HostnameMap[str] = HostnameMap()
    values.add("a.b.test", "exact")
    assert list(values.about("a.b.test")) == [("exact",)]
    assert list(values.about("c.b.test")) == []
    for wildcard in ("*.test", "*", "*.b.test"):
        values.add(wildcard, wildcard)
    assert list(values.about("a.b.test")) == [("exact",), ("*.b.test",), ("*.test",), ("*",)]
    assert list(values.about("*.b.test")) == [("*.b.test",), ("*.test",), ("*",)]
    for wildcard in ("*.test", "*", "*.b.test"):
        values.remove(wildcard, wildcard)
    assert list(values.about("c.b.test")) == []
    assert list(values.about("a.b.test")) == [("exact",)]
    assert list(values) == ["a.b.test"]
