"""Answers are found by a query's bytes until a name that they depend on changes."""

from __future__ import annotations

import ctypes
import struct

import pytest

from pilotfish.node.dns import hot
from pilotfish.node.dns.hot import HotAnswers


def pointed_to(vector: bytes) -> bytes:
    return ctypes.string_at(*struct.unpack("@PN", vector))


def test_a_vector_points_to_the_answer() -> None:
    answers = HotAnswers()
    answers.add(b"query", [b"an answer\0with zeros\0"], [b"name"])
    assert pointed_to(answers.iovecs[b"query"]) == b"an answer\0with zeros\0"


def test_several_answers_take_turns() -> None:
    answers = HotAnswers()
    answers.add(b"query", [b"1", b"2", b"3"], [b"name"])
    assert b"query" not in answers.iovecs
    assert [pointed_to(next(answers.rotating[b"query"])) for _ in range(4)] == [b"1", b"2", b"3", b"1"]


def test_what_depends_on_a_name_is_forgotten_with_it() -> None:
    answers = HotAnswers()
    answers.add(b"q1", [b"1"], [b"a", b"b"])
    answers.add(b"q2", [b"1", b"2"], [b"b"])
    answers.add(b"q3", [b"1"], [b"c"])
    answers.forget(frozenset([b"b", b"unheard of"]))
    assert (list(answers.iovecs), list(answers.rotating), len(answers)) == ([b"q3"], [], 1)
    answers.forget(frozenset([b"a"]))
    answers.forget(None)
    assert (len(answers), answers.iovecs) == (0, {})


def test_the_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot, "CAPACITY", 10)
    answers = HotAnswers()
    for n in range(10):
        answers.add(b"%d" % n, [b"1"], [b"name"])
    answers.trim()
    assert len(answers) == 10
    answers.add(b"one too many", [b"1"], [b"name"])
    vector = answers.iovecs[b"0"]
    assert pointed_to(vector) == b"1", "nothing is freed while answers are on their way"
    answers.trim()
    assert len(answers) == 0
