import pytest

TO = [{"destination": {"host": "a"}}]
NOWHERE = {"destination": {"host": "b"}}


def a_service(**changes):
    spec = {"hosts": ["shop.example.com"], "http": [{"route": TO}], **changes}
    return {name: value for name, value in spec.items() if value is not None}


def tls(sni, **match):
    return [{"match": [{"sniHosts": [sni], **match}], "route": TO}]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hosts": ["10.0.0.1", "shop", "*.example.com"]},
        {"hosts": ["*"], "gateways": ["edge/public"]},
        {"hosts": None},
        {"hosts": ["*"], "gateways": ["edge/public"], "tls": tls("outbound_.80_.v1_.a.b.c")},
        {"gateways": ["public", "mesh", "old.edge.svc.cluster.local"]},
        {"hosts": ["*.example.com"], "tls": tls("a.example.com"), "http": None},
        {"http": None, "tcp": [{"route": TO}]},
        {"exportTo": ["a", "."]},
    ],
)
def test_what_istio_accepts_is_accepted(changes, faults):
    assert faults("virtualservice", a_service(**changes)) == {}


@pytest.mark.parametrize(
    ("changes", "path", "part"),
    [
        ({"hosts": ["*"]}, "spec.hosts[0]", "*.example.com"),
        ({"hosts": ["a_b"]}, "spec.hosts[0]", 'label "a_b"'),
        ({"hosts": ["a.x.com", "*.x.com"]}, "spec.hosts[1]", "Duplicate"),
        ({"hosts": None, "gateways": ["edge/public"]}, "spec.gateways", "delegate"),
        ({"hosts": None, "tcp": [{"route": TO}]}, "spec.tcp", "delegate"),
        ({"gateways": ["a/b/c"]}, "spec.gateways[0]", "<namespace>/<name>"),
        ({"gateways": ["/b"]}, "spec.gateways[0]", "<namespace>/<name>"),
        ({"gateways": ["a b"]}, "spec.gateways[0]", "mesh"),
        ({"http": None}, "spec.http", "needs routes"),
        ({"exportTo": ["~"]}, "spec.exportTo[0]", "ServiceEntry"),
        ({"tls": tls("b.example.com")}, "spec.tls[0].match[0].sniHosts[0]", "shop.example.com"),
        ({"tls": tls("outbound_.80_._.a")}, "spec.tls[0].match[0].sniHosts[0]", "label"),
        ({"tls": tls("shop.example.com", port=70000)}, "spec.tls[0].match[0].port", "65535"),
        ({"tls": [{"match": [], "route": TO}]}, "spec.tls[0].match", "server names"),
        ({"tls": [{"match": [{"sniHosts": []}], "route": TO}]}, "spec.tls[0].match[0].sniHosts", "server names"),
        ({"tcp": [{}]}, "spec.tcp[0].route", "needs destinations"),
        (
            {"tcp": [{"match": [{"destinationSubnets": ["10.0.0.0/40"]}], "route": TO}]},
            "spec.tcp[0].match[0].destinationSubnets[0]",
            "10.0.0.0/24",
        ),
        ({"tcp": [{"match": [{"sourceLabels": {"a b": "c"}}], "route": TO}]}, "spec.tcp[0].match[0].sourceLabels", ""),
        ({"tcp": [{"match": [{"gateways": ["/"]}], "route": TO}]}, "spec.tcp[0].match[0].gateways[0]", "Gateway"),
        ({"tcp": [{"route": [{**NOWHERE, "weight": 0}, NOWHERE]}]}, "spec.tcp[0].route", "all weights are 0"),
    ],
)
def test_what_istio_refuses_is_refused_where_it_stands(changes, path, part, faults):
    found = faults("virtualservice", a_service(**changes))
    assert list(found) == [path]
    assert part in found[path]


@pytest.mark.parametrize(
    ("route", "path", "part"),
    [
        ({}, "route", "destinations, a redirect or a directResponse"),
        ({"route": [{"destination": {"host": "*"}}]}, "route[0].destination.host", "one host"),
        ({"route": [{"destination": {"host": ""}}]}, "route[0].destination.host", "empty"),
        ({"route": [{"destination": {"host": "a", "subset": "a_b"}}]}, "route[0].destination.subset", "letters"),
        ({"route": [{"destination": {"host": "a", "port": {}}}]}, "route[0].destination.port.number", "65535"),
        ({"route": [{**NOWHERE, "weight": -1}]}, "route[0].weight", "at least 0"),
        ({"route": [NOWHERE, NOWHERE]}, "route", "all weights are 0"),
        ({"route": TO, "redirect": {"uri": "/"}}, "route", "redirect answers"),
        (
            {"directResponse": {"status": 200}, "fault": {"abort": {"httpStatus": 500}}},
            "fault",
            "directResponse answers",
        ),
        ({"directResponse": {"status": 200}, "redirect": {"uri": "/"}}, "directResponse", "one answer"),
        ({"directResponse": {"status": 99}}, "directResponse.status", "200 to 599"),
        (
            {"directResponse": {"status": 200, "body": {"string": "x" * (1 << 20) + "x"}}},
            "directResponse.body",
            "1 MiB",
        ),
        ({"delegate": {"name": "b"}, "route": TO}, "route", "delegate"),
        ({"redirect": {}}, "redirect", "prefixRewrite"),
        ({"redirect": {"uri": "/", "prefixRewrite": "/"}}, "redirect.prefixRewrite", "one of them"),
        (
            {"match": [{"uri": {"exact": "/"}}], "redirect": {"prefixRewrite": "/"}},
            "redirect.prefixRewrite",
            "prefix of the URI",
        ),
        ({"redirect": {"uri": "/", "redirectCode": 200}}, "redirect.redirectCode", "300 to 399"),
        ({"redirect": {"scheme": "ftp"}}, "redirect.scheme", '"https"'),
        ({"redirect": {"port": 70000}}, "redirect.port", "65535"),
        ({"route": TO, "rewrite": {}}, "rewrite", "uriRegexRewrite"),
        (
            {"route": TO, "rewrite": {"uri": "/", "uriRegexRewrite": {"match": "a", "rewrite": "b"}}},
            "rewrite.uriRegexRewrite",
            "one of them",
        ),
        (
            {"route": TO, "rewrite": {"uriRegexRewrite": {"match": "a"}}},
            "rewrite.uriRegexRewrite.rewrite",
            "what the match becomes",
        ),
        (
            {"route": TO, "rewrite": {"uriRegexRewrite": {"match": "(", "rewrite": "b"}}},
            "rewrite.uriRegexRewrite.match",
            "RE2",
        ),
        ({"route": TO, "mirror": {"host": "a"}, "mirrors": [NOWHERE]}, "mirror", "there"),
        ({"route": TO, "mirrorPercent": 101}, "mirrorPercent", "0 to 100"),
        ({"route": TO, "mirrorPercentage": {"value": -1}}, "mirrorPercentage.value", "0 to 100"),
        ({"route": TO, "mirrors": [{**NOWHERE, "percentage": {"value": 101}}]}, "mirrors[0].percentage.value", "100"),
        ({"route": TO, "mirrors": [{"destination": {"host": "*"}}]}, "mirrors[0].destination.host", "one host"),
        ({"route": TO, "timeout": "0s"}, "timeout", "at least 1ms"),
        ({"route": TO, "timeout": "1500us"}, "timeout", "whole number of milliseconds"),
        ({"route": TO, "retries": {"attempts": -1}}, "retries.attempts", "at least 0"),
        ({"route": TO, "retries": {"retryOn": "5xx"}}, "retries.attempts", "switches retries off"),
        ({"route": TO, "retries": {"attempts": 1, "retryOn": "5xx,unavailble"}}, "retries.retryOn", '"unavailable"?'),
        ({"route": TO, "retries": {"attempts": 1, "perTryTimeout": "0s"}}, "retries.perTryTimeout", "1ms"),
        ({"route": TO, "retries": {"attempts": 1, "backoff": "0s"}}, "retries.backoff", "1ms"),
        ({"route": TO, "fault": {}}, "fault", "an abort, a delay or both"),
        ({"route": TO, "fault": {"delay": {"exponentialDelay": "1s"}}}, "fault.delay.exponentialDelay", "fixedDelay"),
        ({"route": TO, "fault": {"delay": {"fixedDelay": "0s"}}}, "fault.delay.fixedDelay", "1ms"),
        (
            {"route": TO, "fault": {"delay": {"fixedDelay": "1s", "percentage": {"value": 0.00001}}}},
            "fault.delay.percentage.value",
            "0.0001",
        ),
        ({"route": TO, "fault": {"abort": {"httpStatus": 100}}}, "fault.abort.httpStatus", "200"),
        ({"route": TO, "fault": {"abort": {"grpcStatus": "NOTFOUND"}}}, "fault.abort.grpcStatus", '"NOT_FOUND"?'),
        ({"route": TO, "fault": {"abort": {"http2Error": "X"}}}, "fault.abort.http2Error", "grpcStatus"),
        ({"route": TO, "corsPolicy": {"allowOrigins": [{}]}}, "corsPolicy.allowOrigins[0]", "exact"),
        ({"route": TO, "corsPolicy": {"allowOrigins": [{"regex": "("}]}}, "corsPolicy.allowOrigins[0].regex", "RE2"),
        ({"route": TO, "corsPolicy": {"allowMethods": ["get"]}}, "corsPolicy.allowMethods[0]", '"GET"'),
        ({"route": TO, "corsPolicy": {"allowHeaders": ["a b"]}}, "corsPolicy.allowHeaders[0]", "name"),
        ({"route": TO, "corsPolicy": {"exposeHeaders": [""]}}, "corsPolicy.exposeHeaders[0]", "empty"),
        ({"route": TO, "corsPolicy": {"maxAge": "1500ms"}}, "corsPolicy.maxAge", "whole number of seconds"),
        ({"route": TO, "match": [{"uri": {"regex": ""}}]}, "match[0].uri.regex", "empty"),
        ({"route": TO, "match": [{"method": {"prefix": ""}}]}, "match[0].method.prefix", "empty"),
        ({"route": TO, "match": [{"queryParams": {"a": {"regex": "("}}}]}, "match[0].queryParams[a].regex", "RE2"),
        ({"route": TO, "match": [{"headers": {"a b": {}}}]}, "match[0].headers[a b]", "name"),
        (
            {"route": TO, "match": [{"headers": {"@request.auth.claims.sub": {"exact": "a"}}}]},
            "match[0].headers[@request.auth.claims.sub]",
            "spec.gateways",
        ),
        (
            {"route": TO, "match": [{"withoutHeaders": {"a": {"regex": "**"}}}]},
            "match[0].withoutHeaders[a].regex",
            "RE2",
        ),
        ({"route": TO, "match": [{"port": 70000}]}, "match[0].port", "65535"),
        ({"route": TO, "match": [{"sourceNamespace": "a.b"}]}, "match[0].sourceNamespace", "namespace"),
        ({"route": TO, "headers": {"request": {"remove": ["Host"]}}}, "headers.request.remove[0]", "rewrite"),
        ({"route": TO, "headers": {"response": {"set": {":path": "x"}}}}, "headers.response.set[:path]", "rewrite"),
        ({"route": TO, "headers": {"request": {"add": {"": "x"}}}}, "headers.request.add[]", "empty"),
        (
            {"route": TO, "rewrite": {"authority": "a"}, "headers": {"request": {"set": {"Host": "b"}}}},
            "headers.request.set[Host]",
            "rewrite.authority already",
        ),
        (
            {"route": [{**NOWHERE, "headers": {"response": {"add": {"x": "5%"}}}}]},
            "route[0].headers.response.add[x]",
            "%%",
        ),
    ],
)
def test_a_fault_of_an_http_route_names_its_field(route, path, part, faults):
    found = faults("virtualservice", a_service(http=[route]))
    assert list(found) == [f"spec.http[0].{path}"]
    assert part in found[f"spec.http[0].{path}"]


def test_claims_are_matched_by_gateways_only(faults):
    match = [{"headers": {"@request.auth.claims[groups]": {"exact": "staff"}}}]
    spec = a_service(gateways=["edge/public"], http=[{"match": match, "route": TO}])
    assert faults("virtualservice", spec) == {}
    assert faults("virtualservice", {**spec, "gateways": ["edge/public", "mesh"]})


def test_a_delegate_has_no_delegate(faults):
    spec = {"http": [{"delegate": {"name": "other"}}]}
    assert "spec.http[0].delegate" in faults("virtualservice", spec)


@pytest.mark.parametrize(
    ("changes", "path", "part"),
    [
        ({"gateways": ["public.edge.svc.cluster.local"]}, "spec.gateways[0]", '"edge/public"'),
        ({"http": [{"route": TO, "mirrorPercent": 5}]}, "spec.http[0].mirrorPercent", "mirrorPercentage"),
        ({"http": [{"route": TO, "fault": {"abort": {}}}]}, "spec.http[0].fault.abort", "httpStatus"),
        (
            {"http": [{"directResponse": {"status": 200, "body": {"string": "x" * 200_000}}}]},
            "spec.http[0].directResponse.body",
            "every proxy",
        ),
        ({"tls": tls("10.0.0.1"), "gateways": ["a/b"]}, "spec.tls[0].match[0].sniHosts[0]", "IP addresses"),
        ({"http": [{"route": TO}, {"route": TO}]}, "spec.http[1]", "spec.http[0] has no match"),
    ],
)
def test_what_istio_warns_of(changes, path, part, warnings):
    found = warnings("virtualservice", a_service(**changes))
    assert list(found) == [path]
    assert part in found[path]


def prefix(text, **more):
    return {"uri": {"prefix": text}, **more}


@pytest.mark.parametrize(
    ("earlier", "later", "covered"),
    [
        (prefix("/a"), prefix("/a"), True),
        (prefix("/a", name="one"), prefix("/a", name="two"), True),
        (prefix("/a"), prefix("/a/b"), True),
        (prefix("/a"), {"uri": {"exact": "/a/b"}}, True),
        (prefix("/a"), prefix("/a/b", headers={"x": {"exact": "1"}}), True),
        (prefix("/a"), prefix("/a", port=80), True),
        (prefix("/a", headers={"x": {}}), prefix("/a", headers={"x": {"exact": "1"}}), True),
        (prefix("/a/b"), prefix("/a"), False),
        (prefix("/a", headers={"x": {"exact": "1"}}), prefix("/a/b"), False),
        (prefix("/a", method={"exact": "GET"}), prefix("/a/b"), False),
        (prefix("/a", method={"exact": "GET"}), prefix("/a", method={"exact": "POST"}), False),
        (prefix("/a", withoutHeaders={"x": {}}), prefix("/a"), False),
        (prefix("/a", gateways=["edge/public"]), prefix("/a"), False),
        (prefix("/a", sourceLabels={"app": "x"}), prefix("/a"), False),
        (prefix("/a"), {"uri": {"regex": "/a/.*"}}, False),
        ({"uri": {"regex": "/a/.*"}}, {"uri": {"regex": "/a/.*"}}, True),
        (prefix("/a", ignoreUriCase=True), prefix("/a"), False),
    ],
)
def test_a_match_that_an_earlier_one_covers_is_never_used(earlier, later, covered, warnings):
    routes = [{"match": [earlier], "route": TO}, {"match": [later, prefix("/other")], "route": TO}]
    found = warnings("virtualservice", a_service(http=routes))
    assert list(found) == (["spec.http[1].match[0]"] if covered else [])


def test_a_route_without_a_match_of_its_own_is_never_used(warnings):
    routes = [{"match": [{"port": 80}], "route": TO}, {"match": [{"port": 80}], "route": TO}]
    found = warnings("virtualservice", a_service(tcp=routes, gateways=["a/b"]))
    assert list(found) == ["spec.tcp[1].match[0]", "spec.tcp[1]"]
