import asyncio
import itertools

import msgspec

from pilotfish.api.core import Service, ServicePort, ServiceSpec
from pilotfish.api.decode import decode
from pilotfish.api.discovery import EndpointSlice
from pilotfish.api.kinds import ENDPOINT_SLICE, ENDPOINTS, POD, SERVICE
from pilotfish.api.meta import Condition, ObjectMeta
from pilotfish.api.pods import Container, ContainerPort, Pod, PodSpec, PodStatus
from pilotfish.controllers.endpoints import (
    MOST_ENDPOINTS,
    endpoint_groups,
    endpoints_subsets,
    slice_writes,
)
from pilotfish.controllers.writes import Create, Delete, Patch

_numbers = itertools.count()


def a_service(*ports, **spec):
    about = ObjectMeta(name="web", namespace="default", uid="svc")
    given = ports or (ServicePort(port=80, name="http", target_port=8080),)
    return Service(metadata=about, spec=ServiceSpec(ports=given, selector={"app": "web"}, **spec))


def a_pod(number=1, ready=True, deleted=None, phase="Running", ports=()):
    return Pod(
        metadata=ObjectMeta(name=f"p{number}", namespace="default", uid=f"u{number}", deletion_timestamp=deleted),
        spec=PodSpec(node_name="n", containers=(Container(name="c", ports=tuple(ports)),)),
        status=PodStatus(
            phase=phase,
            pod_ip=f"10.1.{number // 250}.{number % 250 + 1}",
            conditions=(Condition(type="Ready", status="True" if ready else "False"),),
        ),
    )


def carried_out(writes, slices, service):
    """The slices after the writes, as a server would hold them."""
    held = {s.name: s for s in slices}
    for write in writes:
        match write:
            case Create(document):
                named = {**document, "metadata": {**document["metadata"], "name": f"web-{next(_numbers)}"}}
                made = decode(ENDPOINT_SLICE, named)
                held[made.name] = made
            case Patch(obj, patch):
                current = msgspec.to_builtins(obj)
                held[obj.name] = msgspec.convert({**current, **patch, "metadata": current["metadata"]}, EndpointSlice)
            case Delete(obj):
                del held[obj.name]
    return list(held.values())


def addresses_in(slices):
    return sorted(e.addresses[0] for s in slices for e in s.endpoints)


def test_an_endpoint_tells_the_state_of_its_pod():
    leaving = "2024-01-01T00:00:00Z"
    pods = [a_pod(1), a_pod(2, ready=False), a_pod(3, deleted=leaving), a_pod(4, phase="Failed")]
    (group,) = endpoint_groups(a_service(), pods).values()
    states = [(e.conditions.ready, e.conditions.serving, e.conditions.terminating) for e in group]
    assert states == [(True, True, False), (False, False, False), (False, True, True)]
    assert group[0].target_ref.name == "p1"
    assert group[0].node_name == "n"
    (group,) = endpoint_groups(a_service(publish_not_ready_addresses=True), pods).values()
    assert [e.conditions.ready for e in group] == [True, True, True]


def test_named_target_ports_are_each_pods_own():
    service = a_service(ServicePort(port=80, name="http", target_port="web"), ServicePort(port=90, name="other"))
    pods = [
        a_pod(1, ports=[ContainerPort(container_port=8080, name="web")]),
        a_pod(2, ports=[ContainerPort(container_port=9090, name="web")]),
        a_pod(3),
    ]
    groups = endpoint_groups(service, pods)
    found = {
        tuple((p.name, p.port) for p in ports): [e.target_ref.name for e in es] for (_, ports), es in groups.items()
    }
    assert found == {
        (("http", 8080), ("other", 90)): ["p1"],
        (("http", 9090), ("other", 90)): ["p2"],
        (("other", 90),): ["p3"],
    }


def test_a_service_without_pods_has_one_empty_slice():
    service = a_service()
    (create,) = slice_writes(service, {}, [])
    assert create.document["endpoints"] == []
    assert create.document["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    slices = carried_out([create], [], service)
    assert slice_writes(service, {}, slices) == []
    wanted = endpoint_groups(service, [a_pod(1)])
    slices = carried_out(slice_writes(service, wanted, slices), slices, service)
    assert addresses_in(slices) == ["10.1.0.2"]
    slices = carried_out(slice_writes(service, {}, slices), slices, service)
    assert len(slices) == 1
    assert slices[0].endpoints == ()


def test_slices_hold_at_most_a_hundred_and_change_as_little_as_can_be():
    service = a_service()
    pods = [a_pod(n) for n in range(250)]
    slices = carried_out(slice_writes(service, endpoint_groups(service, pods), []), [], service)
    assert sorted(len(s.endpoints) for s in slices) == [50, 100, 100]
    assert slice_writes(service, endpoint_groups(service, pods), slices) == []
    changed = [a_pod(n, ready=n != 7) for n in range(250)]
    (patch,) = slice_writes(service, endpoint_groups(service, changed), slices)
    assert list(patch.patch) == ["endpoints"]
    (patch,) = slice_writes(service, endpoint_groups(service, [*pods, a_pod(300)]), slices)
    assert len(patch.object.endpoints) == 50
    replaced = [*pods[1:], a_pod(300)]
    (patch,) = slice_writes(service, endpoint_groups(service, replaced), slices)
    assert len(patch.patch["endpoints"]) == MOST_ENDPOINTS
    (patch,) = slice_writes(service, endpoint_groups(service, pods[:-1]), slices)
    slices = carried_out([patch], slices, service)
    assert len(addresses_in(slices)) == 249


def test_the_older_endpoints_leave_out_who_is_leaving():
    pods = [a_pod(1), a_pod(2, ready=False), a_pod(3, deleted="2024-01-01T00:00:00Z")]
    (subset,) = endpoints_subsets(endpoint_groups(a_service(), pods))
    assert [a.ip for a in subset.addresses] == ["10.1.0.2"]
    assert [a.ip for a in subset.not_ready_addresses] == ["10.1.0.3"]
    assert [(p.name, p.port) for p in subset.ports] == [("http", 8080)]


def test_endpoints_follow_the_pods(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            service = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
            }
            await cluster.create(service)

            async def endpoints():
                slices = await cluster.items(ENDPOINT_SLICE)
                return len(slices), sorted(e.conditions.ready for s in slices for e in s.endpoints)

            await eventually(endpoints, (1, []))
            await cluster.create(a_deployment(replicas=2))
            await eventually(endpoints, (1, [True, True]))
            (held,) = await cluster.items(ENDPOINT_SLICE)
            assert held.name.startswith("web-")
            assert held.metadata.controller.kind == "Service"
            pod = (await cluster.items(POD))[0]
            cluster.kubelet.hold_ready = True
            await cluster.kubelet.report(pod, ready=False)
            await eventually(endpoints, (1, [False, True]))

            async def mirrored():
                (mirror,) = await cluster.items(ENDPOINTS)
                return [(len(s.addresses), len(s.not_ready_addresses)) for s in mirror.subsets]

            await eventually(mirrored, [(1, 1)])
            await cluster.client.delete(SERVICE, "web", "default")

            async def left():
                return [*await cluster.items(ENDPOINT_SLICE), *await cluster.items(ENDPOINTS)]

            await eventually(left, [])

    asyncio.run(scenario())
