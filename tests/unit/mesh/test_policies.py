import yaml

from pilotfish.api.decode import decode
from pilotfish.api.kinds import DESTINATION_RULE, VIRTUAL_SERVICE
from pilotfish.mesh.policies import BY_DEFAULT, Exports, Policies, Viewer
from pilotfish.mesh.records import Registry, Service

A, B = Viewer("a"), Viewer("b")


def routing(name="r", hosts="[web]", namespace="a", year=2024, **spec):
    more = "".join(f", {key}: {value}" for key, value in spec.items())
    return decode(
        VIRTUAL_SERVICE,
        yaml.safe_load(f"""
            apiVersion: networking.istio.io/v1
            kind: VirtualService
            metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{year}-01-01T00:00:00Z"}}
            spec: {{hosts: {hosts}, http: [{{route: [{{destination: {{host: target}}}}]}}]{more}}}
            """),
    )


def rule(name="d", host="web", namespace="a", year=2024, subsets="[]", **spec):
    more = "".join(f", {key}: {value}" for key, value in spec.items())
    return decode(
        DESTINATION_RULE,
        yaml.safe_load(f"""
            apiVersion: networking.istio.io/v1
            kind: DestinationRule
            metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{year}-01-01T00:00:00Z"}}
            spec: {{host: {host}, subsets: {subsets}{more}}}
            """),
    )


def policies(*objects, exports=BY_DEFAULT):
    held = Policies("cluster.local", "istio-system", exports)
    for obj in objects:
        held.apply(None, obj)
    return held


def routed(held, viewer=A, hostname="web.a.svc.cluster.local"):
    found = held.routings(viewer, hostname)
    return found[0][0].key.name if found else None


WEB = Service("web.a.svc.cluster.local", "a", "web", Registry.KUBERNETES, (), export_to=("*",))


def ruled(held, viewer=A):
    found = held.rule(viewer, WEB)
    return found.sources[0].name if found else None


def test_short_names_are_those_of_the_namespace():
    held = policies(routing())
    ((found,),) = held.routings(A, "web.a.svc.cluster.local")
    assert found.hosts == ("web.a.svc.cluster.local",)
    assert found.destinations == ("target.a.svc.cluster.local",)
    assert [r.key.name for r in held.routed_to("target.a.svc.cluster.local")] == ["r"]
    assert [r.key.name for r in held.naming("web.a.svc.cluster.local")] == ["r"]


def test_the_most_specific_host_goes_before_the_oldest():
    held = policies(
        routing("any", "['*']", year=2020),
        routing("wild", "['*.a.svc.cluster.local']", year=2021),
        routing("young", year=2024),
        routing("old", year=2023),
    )
    found = held.routings(A, "web.a.svc.cluster.local")
    assert [[routing.key.name for routing in group] for group in found] == [["old", "young"], ["wild"], ["any"]]
    assert routed(held, hostname="other.a.svc.cluster.local") == "wild"
    assert routed(held, hostname="else.test") == "any"


def test_one_that_means_a_host_twice_is_there_once():
    held = policies(routing(hosts="[web, '*.a.svc.cluster.local', '*']"))
    ((found,),) = held.routings(A, "web.a.svc.cluster.local")
    assert found.key.name == "r"


def test_one_that_is_exported_to_fewer_goes_first():
    held = policies(routing("all", year=2020), routing("some", year=2022, exportTo="[a, b]"))
    assert routed(held) == "some"
    held.apply(None, routing("own", year=2024, exportTo="['.']"))
    assert (routed(held), routed(held, B)) == ("own", "some")


def test_who_sees_what_does_not_say_it():
    private = Exports(virtual_services=(".",), destination_rules=(".",))
    held = policies(routing(), rule(), exports=private)
    assert (routed(held), routed(held, B)) == ("r", None)
    assert (ruled(held), ruled(held, B)) == ("d", None)
    assert held.export_by_default(BY_DEFAULT) == {"web.a.svc.cluster.local", "target.a.svc.cluster.local"}
    assert (routed(held, B), ruled(held, B)) == ("r", "d")


def test_those_of_gateways_are_not_for_sidecars():
    held = policies(routing("both", gateways="[mesh, web]"), routing("out", gateways="[web, b/web]", year=2020))
    assert routed(held) == "both"
    assert [r.key.name for r in held.at_gateway("a/web")] == ["out", "both"]
    assert [r.key.name for r in held.at_gateway("b/web")] == ["out"]


def test_a_rule_is_of_the_client_then_of_the_service_then_of_the_mesh():
    everybody = rule("mesh", "web.a.svc.cluster.local", "istio-system")
    held = policies(everybody)
    assert ruled(held, B) == "mesh"
    held.apply(None, rule("service"))
    assert ruled(held, B) == "service"
    held.apply(None, rule("client", "web.a.svc.cluster.local", "b"))
    assert (ruled(held, B), ruled(held)) == ("client", "service")


def test_rules_of_one_host_are_merged():
    one = rule("one", year=2020, subsets="[{name: v1, labels: {v: '1'}}]")
    two = rule("two", subsets="[{name: v1}, {name: v2}]", trafficPolicy="{connectionPool: {}}")
    found = policies(two, one).rule(A, WEB)
    assert [key.name for key in found.sources] == ["one", "two"]
    assert found.traffic_policy is not None
    assert found.subset("v1").labels == {"v": "1"}
    assert found.subset("v2") is not None


def test_a_rule_for_some_workloads_goes_before_one_for_all():
    held = policies(rule("all", year=2020), rule("some", workloadSelector="{matchLabels: {app: x}}"))
    assert held.label_keys == {"app"}
    assert ruled(held, Viewer("a", (("app", "x"),))) == "some"
    assert ruled(held) == "all"


def test_a_change_tells_the_hosts_that_it_is_about():
    held = policies()
    before, after = routing(hosts="[web, '*.test']"), routing(hosts="[other.test]")
    target = "target.a.svc.cluster.local"
    assert held.apply(None, before) == {"web.a.svc.cluster.local", "*.test", target}
    assert held.apply(before, before) == frozenset()
    assert held.apply(before, after) == {"web.a.svc.cluster.local", "*.test", "other.test", target}
    assert held.apply(after, None) == {"other.test", target}
    assert list(held.host_names()) == []
    assert held.apply(None, rule()) == {"web.a.svc.cluster.local"}
    assert held.apply(rule(), None) == {"web.a.svc.cluster.local"}
    assert held.label_keys == frozenset()
