"""Which names stand for which others, and what a change of one touches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotfish.mesh.aliases import Aliases

NAMES = st.sampled_from("abcde")


def test_chains() -> None:
    aliases = Aliases()
    assert aliases.put("a", "b") == {"b"}
    assert aliases.put("b", "c") == {"c"}
    assert aliases.of("c") == ("a", "b")
    assert aliases.put("b", "c") == frozenset()
    assert aliases.put("b", "d") == {"c", "d"}
    assert (aliases.of("c"), aliases.of("d")) == ((), ("a", "b"))
    assert (aliases.end("a"), aliases.end("d"), aliases.end("x")) == ("d", "d", "x")
    assert aliases.put("a", "") == {"b", "d"}
    assert aliases.of("d") == ("b",)


def test_round_is_nowhere() -> None:
    aliases = Aliases()
    aliases.put("a", "b")
    aliases.put("b", "a")
    assert (aliases.end("a"), aliases.end("b")) == ("", "")
    assert aliases.of("a") == ("b",)


@given(st.lists(st.tuples(NAMES, st.one_of(NAMES, st.just(""))), max_size=20))
def test_what_is_not_touched_has_the_same_aliases(changes: list[tuple[str, str]]) -> None:
    """Also where names lead round."""
    aliases = Aliases()
    for alias, canonical in changes:
        before = {name: aliases.of(name) for name in "abcde"}
        touched = aliases.put(alias, canonical)
        assert all(aliases.of(name) == before[name] for name in "abcde" if name not in touched and name != alias)
