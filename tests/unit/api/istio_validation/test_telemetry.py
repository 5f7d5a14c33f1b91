import pytest


def tags(**tag):
    return {"tracing": [{"customTags": {"a": tag}}]}


def override(**more):
    return {"metrics": [{"overrides": [more]}]}


@pytest.mark.parametrize(
    ("spec", "path", "part"),
    [
        ({"selector": {"matchLabels": {"a": "*"}}}, "spec.selector.matchLabels", "wildcards"),
        ({"selector": {"matchLabels": {"a": "x" * 64}}}, "spec.selector.matchLabels", "63"),
        (
            {"selector": {"matchLabels": {"a": "b"}}, "targetRef": {"kind": "Service", "name": "a"}},
            "spec.targetRef",
            "only one of",
        ),
        ({"targetRef": {"group": "apps", "kind": "Deployment", "name": "a"}}, "spec.targetRef.kind", "Gateway"),
        ({"tracing": [{"providers": [{"name": ""}]}]}, "spec.tracing[0].providers[0].name", "extensionProviders"),
        (tags(literal={"value": ""}), "spec.tracing[0].customTags[a].literal.value", "Required"),
        (tags(environment={"name": ""}), "spec.tracing[0].customTags[a].environment.name", "Required"),
        (tags(header={"name": ""}), "spec.tracing[0].customTags[a].header.name", "Required"),
        (tags(formatter={"value": ""}), "spec.tracing[0].customTags[a].formatter.value", "Required"),
        (tags(literal={"value": "a"}, header={"name": "b"}), "spec.tracing[0].customTags[a].header", "only one of"),
        ({"tracing": [{"customTags": {"": {}}}]}, "spec.tracing[0].customTags[]", "needs a name"),
        ({"metrics": [{"reportingInterval": "0s"}]}, "spec.metrics[0].reportingInterval", "1ms"),
        (override(match={"customMetric": ""}), "spec.metrics[0].overrides[0].match.customMetric", "Required"),
        (override(tagOverrides={"a": {}}), "spec.metrics[0].overrides[0].tagOverrides[a].value", "UPSERT"),
        (
            override(tagOverrides={"a": {"operation": "REMOVE", "value": "b"}}),
            "spec.metrics[0].overrides[0].tagOverrides[a].value",
            "leave the value out",
        ),
        ({"accessLogging": [{"filter": {}}]}, "spec.accessLogging[0].filter.expression", "log everything"),
        (
            {"accessLogging": [{"filter": {"expression": "response.code >="}}]},
            "spec.accessLogging[0].filter.expression",
            "at character 17",
        ),
    ],
)
def test_what_istio_refuses_is_refused_where_it_stands(spec, path, part, faults):
    found = faults("telemetry", spec)
    assert list(found) == [path]
    assert part in found[path]


def test_what_istio_warns_of(warnings):
    spec = {
        "selector": {},
        "tracing": [{"providers": [{"name": "a"}, {"name": "b"}]}, {}],
        **override(tagOverrides={"": {"value": "x"}, "a": {"value": "string(1)"}}),
    }
    assert list(warnings("telemetry", spec)) == [
        "spec.selector",
        "spec.tracing",
        "spec.tracing[0].providers",
        "spec.metrics[0].overrides[0].tagOverrides",
        "spec.metrics[0].overrides[0].tagOverrides[a].value",
    ]


def test_a_proxy_config(faults, warnings):
    assert list(faults("proxyconfig", {"selector": {"matchLabels": {"": "x"}}})) == ["spec.selector.matchLabels"]
    long = {"environmentVariables": {"A": "x" * 2049}}
    assert "2048" in faults("proxyconfig", long)["spec.environmentVariables[A]"]
    assert list(warnings("proxyconfig", {"selector": {}})) == ["spec.selector"]
