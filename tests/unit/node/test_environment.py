from __future__ import annotations

import pytest

from pilotfish.api.core import ConfigMap, Secret, Service
from pilotfish.api.decode import decode
from pilotfish.api.kinds import CONFIG_MAP, POD, SECRET, SERVICE
from pilotfish.api.pods import Container, Pod
from pilotfish.node.environment import ConfigError, Sources, expand, references, resolve, service_variables

CONF: ConfigMap = decode(CONFIG_MAP, {"metadata": {"name": "conf"}, "data": {"a": "1", "b": "2"}})
KEYS: Secret = decode(SECRET, {"metadata": {"name": "keys"}, "data": {"password": "c2VjcmV0"}})
WEB: Service = decode(
    SERVICE,
    {
        "metadata": {"name": "my-web", "namespace": "ns"},
        "spec": {"clusterIP": "10.0.0.7", "ports": [{"name": "http", "port": 80}, {"port": 53, "protocol": "UDP"}]},
    },
)


def pod_with(*env: dict[str, object], env_from: object = (), resources: object = None) -> tuple[Pod, Container]:
    container = {"name": "c", "env": list(env), "envFrom": list(env_from), "resources": resources}  # type: ignore[call-overload]
    metadata = {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "shop"}}
    pod = decode(POD, {"metadata": metadata, "spec": {"nodeName": "n", "containers": [container]}})
    return pod, pod.spec.containers[0]


def resolved(*env: dict[str, object], env_from: object = (), resources: object = None) -> dict[str, str]:
    sources = Sources("10.1.0.2", "10.1.0.1", {"conf": CONF}, {"keys": KEYS})
    return resolve(*pod_with(*env, env_from=env_from, resources=resources), sources)


def of(source: str, **fields: object) -> dict[str, object]:
    return {"name": "X", "valueFrom": {source: fields}}


def test_variables_refer_to_those_before_them() -> None:
    env = resolved(
        {"name": "A", "value": "one"}, {"name": "B", "value": "$(A)-$(C)-$$(A)"}, {"name": "C", "value": "late"}
    )
    assert env == {"A": "one", "B": "one-$(C)-$(A)", "C": "late"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (of("fieldRef", fieldPath="metadata.name"), "p"),
        (of("fieldRef", fieldPath="metadata.labels['app']"), "shop"),
        (of("fieldRef", fieldPath="metadata.annotations['none']"), ""),
        (of("fieldRef", fieldPath="spec.serviceAccountName"), "default"),
        (of("fieldRef", fieldPath="status.podIP"), "10.1.0.2"),
        (of("fieldRef", fieldPath="status.hostIP"), "10.1.0.1"),
        (of("configMapKeyRef", name="conf", key="b"), "2"),
        (of("secretKeyRef", name="keys", key="password"), "secret"),
        (of("resourceFieldRef", resource="limits.memory", divisor="1Mi"), "64"),
        (of("resourceFieldRef", resource="limits.cpu"), "2"),
        (of("resourceFieldRef", resource="requests.cpu"), "0"),
    ],
)
def test_values_come_from_where_they_are_said_to(variable: dict[str, object], value: str) -> None:
    assert resolved(variable, resources={"limits": {"memory": "64Mi", "cpu": "1500m"}})["X"] == value


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (of("configMapKeyRef", name="none", key="b"), 'configmap "none" not found'),
        (of("configMapKeyRef", name="conf", key="z"), "couldn't find key z in configmap ns/conf"),
        (of("secretKeyRef", name="none", key="b"), 'secret "none" not found'),
        (of("fieldRef", fieldPath="spec.what"), 'fieldPath "spec.what" is not supported'),
    ],
)
def test_what_is_missing_is_named(variable: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolved(variable)


def test_optional_sources_may_be_missing() -> None:
    assert resolved(of("secretKeyRef", name="none", key="b", optional=True)) == {}
    assert resolved(env_from=[{"configMapRef": {"name": "none", "optional": True}}]) == {}


def test_whole_config_maps_come_with_a_prefix_and_single_variables_win() -> None:
    env_from = [{"prefix": "P_", "configMapRef": {"name": "conf"}}, {"secretRef": {"name": "keys"}}]
    env = resolved({"name": "P_a", "value": "own"}, env_from=env_from)
    assert env == {"P_a": "own", "P_b": "2", "password": "secret"}


def test_services_are_told_of_as_kubernetes_and_docker_do() -> None:
    assert service_variables([WEB]) == {
        "MY_WEB_SERVICE_HOST": "10.0.0.7",
        "MY_WEB_SERVICE_PORT": "80",
        "MY_WEB_SERVICE_PORT_HTTP": "80",
        "MY_WEB_PORT": "tcp://10.0.0.7:80",
        "MY_WEB_PORT_80_TCP": "tcp://10.0.0.7:80",
        "MY_WEB_PORT_80_TCP_PROTO": "tcp",
        "MY_WEB_PORT_80_TCP_PORT": "80",
        "MY_WEB_PORT_80_TCP_ADDR": "10.0.0.7",
        "MY_WEB_PORT_53_UDP": "udp://10.0.0.7:53",
        "MY_WEB_PORT_53_UDP_PROTO": "udp",
        "MY_WEB_PORT_53_UDP_PORT": "53",
        "MY_WEB_PORT_53_UDP_ADDR": "10.0.0.7",
    }


def test_references_name_what_has_to_be_read_first() -> None:
    _, container = pod_with(
        of("configMapKeyRef", name="a", key="x"),
        of("secretKeyRef", name="b", key="x"),
        env_from=[{"secretRef": {"name": "c"}}],
    )
    assert references(container) == (frozenset({"a"}), frozenset({"b", "c"}))


def test_expansion_leaves_alone_what_it_does_not_know() -> None:
    assert expand("$(A) $(B) $C $$ $$(A) $(", {"A": "1"}) == "1 $(B) $C $ $(A) $("
