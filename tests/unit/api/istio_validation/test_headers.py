import pytest

from pilotfish.api.istio_validation.headers import operations
from pilotfish.api.networking.http_route import HeaderOperations, Headers


def faults_of_value(value):
    return [fault.message for fault in operations("h", Headers(request=HeaderOperations(set={"x": value})))]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "plain",
        "100%%",
        "a %HOSTNAME% b",
        "%REQ(x-id)%",
        "%REQ(x-id?:path) %",
        '%UPSTREAM_METADATA(["a", "b"])%',
        r"%START_TIME(%Y\)x)%",
        "tab\there",
    ],
)
def test_a_value_that_envoy_reads_is_accepted(value):
    assert faults_of_value(value) == []


@pytest.mark.parametrize("value", ["100%", "a%b", "%START_TIME%%", "%REQ(x", "%REQ(x)", '%X(["a" "b"])%', "%X([a])%"])
def test_a_percent_sign_that_begins_nothing_is_refused(value):
    (message,) = faults_of_value(value)
    assert "%%" in message


def test_control_characters_are_refused():
    (message,) = faults_of_value("a\nb")
    assert "control" in message
