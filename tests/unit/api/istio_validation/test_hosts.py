import pytest

from pilotfish.api.istio_validation.hosts import covers, overlap


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("a.com", "a.com"),
        ("*", "a.com"),
        ("*", "*"),
        ("*", "*.com"),
        ("*.com", "a.com"),
        ("*.com", "a.b.com"),
        ("*.com", "*.b.com"),
    ],
)
def test_a_host_covers_what_is_below_it(wide, narrow):
    assert covers(wide, narrow)
    assert overlap(narrow, wide)


@pytest.mark.parametrize(
    ("wide", "narrow"), [("a.com", "b.com"), ("*.a.com", "a.com"), ("a.com", "*.com"), ("*.b.com", "*.com")]
)
def test_a_host_does_not_cover_what_is_beside_or_above_it(wide, narrow):
    assert not covers(wide, narrow)


def test_hosts_beside_each_other_do_not_overlap():
    assert not overlap("*.a.com", "*.b.com")
