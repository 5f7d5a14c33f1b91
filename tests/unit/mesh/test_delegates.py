from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from pilotfish.api.networking.http_route import HTTPRoute
from pilotfish.mesh.delegates import merge


def route(text: str) -> HTTPRoute:
    return msgspec.convert(yaml.safe_load(text), HTTPRoute)


def merged_match(root: str, delegate: str) -> list[dict[str, Any]] | None:
    """The matches of what becomes of two, as they would be written; None for a conflict."""
    found = merge(route(f"match: {root}"), route(f"match: {delegate}"))
    return None if found is None else [msgspec.to_builtins(match) for match in found.match]


def written(text: str) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(match) for match in route(f"match: {text}").match]


@pytest.mark.parametrize(
    ("root", "delegate", "expected"),
    [
        ("[]", "[]", "[]"),
        ("[{uri: {prefix: /a}}]", "[]", "[{uri: {prefix: /a}}]"),
        ("[]", "[{uri: {prefix: /a}}]", "[{uri: {prefix: /a}}]"),
        ("[{uri: {prefix: /a}}]", "[{uri: {prefix: /a/b}}]", "[{uri: {prefix: /a/b}}]"),
        ("[{uri: {prefix: /a}}]", "[{uri: {exact: /a/b}}]", "[{uri: {exact: /a/b}}]"),
        ("[{uri: {exact: /a}}]", "[{uri: {exact: /a}}]", "[{uri: {exact: /a}}]"),
        (
            "[{uri: {prefix: /a}, method: {exact: GET}, name: r}]",
            "[{headers: {x: {exact: y}}, name: d, port: 80}]",
            "[{uri: {prefix: /a}, method: {exact: GET}, headers: {x: {exact: y}}, name: r-d, port: 80}]",
        ),
        (
            "[{uri: {prefix: /a}}, {uri: {prefix: /b}}]",
            "[{uri: {exact: /b/1}}, {uri: {exact: /a/1}}]",
            "[{uri: {exact: /b/1}}, {uri: {exact: /a/1}}]",
        ),
        (
            "[{headers: {a: {exact: '1'}}, queryParams: {q: {}}, withoutHeaders: {w: {}}}]",
            "[{headers: {b: {exact: '2'}}}]",
            "[{headers: {a: {exact: '1'}, b: {exact: '2'}}, queryParams: {q: {}}, withoutHeaders: {w: {}}}]",
        ),
        (
            "[{sourceLabels: {a: b}, sourceNamespace: n, statPrefix: s, gateways: [n/g, mesh]}]",
            "[{sourceLabels: {c: d}, gateways: [mesh]}]",
            "[{sourceLabels: {a: b, c: d}, sourceNamespace: n, statPrefix: s, gateways: [mesh]}]",
        ),
        ("[{gateways: [n/g]}]", "[{}]", "[{gateways: [n/g]}]"),
    ],
)
def test_matches_hold_together(root: str, delegate: str, expected: str) -> None:
    assert merged_match(root, delegate) == written(expected)


@pytest.mark.parametrize(
    ("root", "delegate"),
    [
        ("[{uri: {prefix: /a/b}}]", "[{uri: {prefix: /a}}]"),
        ("[{uri: {prefix: /a}}]", "[{uri: {exact: /b}}]"),
        ("[{uri: {exact: /a}}]", "[{uri: {prefix: /a}}]"),
        ("[{uri: {exact: /a}}]", "[{uri: {exact: /b}}]"),
        ("[{uri: {regex: /a}}]", "[{uri: {regex: /a}}]"),
        ("[{uri: {prefix: /a}}]", "[{uri: {regex: /a.*}}]"),
        ("[{uri: {prefix: /a}}]", "[{uri: {prefix: /a}, ignoreUriCase: true}]"),
        ("[{uri: {prefix: /a}}]", "[{uri: {prefix: /a}}, {uri: {prefix: /b}}]"),
        ("[{method: {exact: GET}}]", "[{method: {exact: PUT}}]"),
        ("[{scheme: {exact: http}}]", "[{scheme: {exact: https}}]"),
        ("[{authority: {exact: a}}]", "[{authority: {exact: b}}]"),
        ("[{headers: {a: {exact: b}}}]", "[{headers: {a: {exact: c}}}]"),
        ("[{withoutHeaders: {a: {exact: b}}}]", "[{withoutHeaders: {a: {exact: c}}}]"),
        ("[{queryParams: {a: {exact: b}}}]", "[{queryParams: {a: {exact: c}}}]"),
        ("[{port: 80}]", "[{port: 81}]"),
        ("[{sourceNamespace: a}]", "[{sourceNamespace: b}]"),
        ("[{sourceLabels: {a: b}}]", "[{sourceLabels: {a: c}}]"),
        ("[{gateways: [n/g]}]", "[{gateways: [n/h]}]"),
    ],
)
def test_a_delegate_that_asks_for_more_than_its_root_is_left_out(root: str, delegate: str) -> None:
    assert merged_match(root, delegate) is None


def test_what_a_delegate_does_not_say_is_as_in_the_root() -> None:
    said = """
      name: r
      timeout: 1s
      retries: {attempts: 1}
      rewrite: {uri: /b}
      fault: {abort: {httpStatus: 500}}
      corsPolicy: {allowOrigin: [a]}
      mirror: {host: m}
      mirrorPercentage: {value: 1}
      headers: {request: {set: {a: b}}}
    """
    root = route(said)
    found = merge(root, route("route: [{destination: {host: d}}]"))
    assert found is not None
    assert found.route[0].destination.host == "d"
    assert msgspec.structs.replace(found, route=()) == root
    own = route(said.replace("r\n", "d\n", 1).replace("1s", "2s").replace("host: m", "host: n"))
    found = merge(root, own)
    assert found == msgspec.structs.replace(own, name="r-d")
