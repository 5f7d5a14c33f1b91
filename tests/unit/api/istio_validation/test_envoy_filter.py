import pytest

MANAGER = "envoy.filters.network.http_connection_manager"
REMOVE = {"operation": "REMOVE"}
TYPES = "type.googleapis.com/envoy.extensions.filters.http"


def a_filter(apply_to="CLUSTER", patch=REMOVE, **match):
    return {"configPatches": [{"applyTo": apply_to, "match": match, "patch": patch}]}


def add(apply_to, value):
    return a_filter(apply_to, {"operation": "ADD", "value": value})


def listener(name, sub=None):
    inner = {"name": name, **({"subFilter": {"name": sub}} if sub is not None else {})}
    return {"filterChain": {"filter": inner}}


@pytest.mark.parametrize(
    ("spec", "path", "part"),
    [
        (a_filter("INVALID"), "applyTo", "HTTP_FILTER"),
        ({"configPatches": [{"applyTo": "CLUSTER"}]}, "patch", "Required"),
        (a_filter(patch={}), "patch.operation", "MERGE"),
        (a_filter(patch={"operation": "ADD"}), "patch.value", "ADD needs it"),
        (a_filter(proxy={"proxyVersion": "("}), "match.proxy.proxyVersion", "RE2"),
        (a_filter(listener={}), "match.listener", "matched by cluster"),
        (a_filter("HTTP_ROUTE", cluster={}), "match.cluster", "matched by routeConfiguration"),
        (a_filter("LISTENER", routeConfiguration={}), "match.routeConfiguration", "matched by listener"),
        (a_filter("CLUSTER", cluster={}, routeConfiguration={}), "match.routeConfiguration", "matched by cluster"),
        (a_filter("HTTP_FILTER", listener=listener("")), "match.listener.filterChain.filter.name", "by its name"),
        (
            a_filter("NETWORK_FILTER", listener=listener(MANAGER, "a")),
            "match.listener.filterChain.filter.subFilter",
            "HTTP_FILTER",
        ),
        (a_filter("HTTP_FILTER", listener=listener("x", "a")), "match.listener.filterChain.filter.name", MANAGER),
        (
            a_filter("HTTP_FILTER", listener=listener(MANAGER, "")),
            "match.listener.filterChain.filter.subFilter.name",
            "by its name",
        ),
        (a_filter(context="WAYPOINT"), "match.waypoint", "matched by it"),
        (a_filter(waypoint={}), "match.waypoint", "context WAYPOINT only"),
        (a_filter(context="WAYPOINT", waypoint={"portNumber": 70000}), "match.waypoint.portNumber", "65535"),
        (add("CLUSTER", {"connect_timeout": "never"}), "patch.value.connect_timeout", "expected a duration"),
        (add("VIRTUAL_HOST", {"routes": [{"match": []}]}), "patch.value.routes[0].match", "envoy.config.route.v3"),
        (
            add("HTTP_FILTER", {"name": "a", "typed_config": {"@type": f"{TYPES}.lua.v3.Luah"}}),
            "patch.value.typed_config.@type",
            "Luah is not",
        ),
        (add("BOOTSTRAP", {"admin": {"address": {"pipe": 1}}}), "patch.value.admin.address.pipe", "an object"),
    ],
)
def test_a_fault_of_a_patch_names_its_field(spec, path, part, faults):
    found = faults("envoyfilter", spec)
    where = f"spec.configPatches[0].{path}"
    assert where in found
    assert part in found[where]


@pytest.mark.parametrize(
    ("spec", "path", "part"),
    [
        ({"workloadSelector": {"labels": {"a": "*"}}}, "spec.workloadSelector.labels", "wildcards"),
        ({"targetRefs": [{"kind": "Pod", "name": "a"}]}, "spec.targetRefs[0].kind", "Service"),
        ({"targetRefs": [{"kind": "Service", "name": ""}]}, "spec.targetRefs[0].name", "Required"),
        (
            {"targetRefs": [{"kind": "Service", "name": "a", "namespace": "b"}]},
            "spec.targetRefs[0].namespace",
            "leave it out",
        ),
        ({"targetRefs": [{"kind": "Service", "name": "a"}], "workloadSelector": {}}, "spec.targetRefs", "only one of"),
    ],
)
def test_what_istio_refuses_is_refused_where_it_stands(spec, path, part, faults):
    found = faults("envoyfilter", spec)
    assert list(found) == [path]
    assert part in found[path]


@pytest.mark.parametrize(
    ("spec", "path", "part"),
    [
        ({"workloadSelector": {}}, "spec.workloadSelector", "all workloads"),
        (a_filter(proxy={"proxyVersion": "1" * 1025}), "spec.configPatches[0].match.proxy.proxyVersion", "ignored"),
        (
            a_filter("LISTENER", listener=listener("x")),
            "spec.configPatches[0].match.listener.filterChain.filter",
            "no effect on a LISTENER",
        ),
        (
            a_filter("HTTP_FILTER", listener=listener(MANAGER, "envoy.cors")),
            "spec.configPatches[0].match.listener.filterChain.filter.subFilter.name",
            "envoy.filters.http.cors",
        ),
        (
            add("HTTP_FILTER", {"typed_config": {"@type": f"{TYPES}.lua.v3.Lua", "inline_cod": "x"}}),
            "spec.configPatches[0].patch.value.typed_config.inline_cod",
            'did you mean "inline_code"?',
        ),
    ],
)
def test_what_istio_warns_of(spec, path, part, warnings):
    found = warnings("envoyfilter", spec)
    assert list(found) == ["spec", path]
    assert part in found[path]
