import pytest

from pilotfish.api.istio_validation.regex import regex


@pytest.mark.parametrize(
    "text",
    [
        "a.*b",
        "(?i)shop",
        "a(?i)b",
        "(?i:shop)x",
        r"\pL+\p{Greek}\P{Lu}",
        r"\Qa(b\E",
        r"^\d{1,3}\z",
        r"(?P<name>a)|(?<other>b)",
        r"[[:alpha:]]",
        r"\x41\.",
        "é{2,}",
    ],
)
def test_what_re2_reads_is_accepted(text):
    assert regex("spec", text) == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("a" * 1025, "1024"),
        ("(", "missing )"),
        ("*", "nothing to repeat"),
        ("[a", "unterminated"),
        ("a(?=b)", "look-ahead"),
        ("a(?!b)", "look-ahead"),
        ("(?<=a)b", "look-behind"),
        ("(?<!a)b", "look-behind"),
        (r"(a)\1", r"\\1"),
        ("(?P<a>x)(?P=a)", "back-references"),
        ("(?>a)", "atomic"),
        ("a{1001}", "1000 times"),
    ],
)
def test_what_re2_does_not_read_is_refused_with_a_reason(text, part):
    (fault,) = regex("spec", text)
    assert part in fault.message
