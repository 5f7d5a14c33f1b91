"""What is made once for several namespaces is what each of them would have by itself."""

from __future__ import annotations

import pytest

from pilotfish.api import kinds
from pilotfish.api.decode import decode
from pilotfish.api.meta import Document, Object
from pilotfish.api.scheme import AnyKind
from pilotfish.mesh.model import Model
from pilotfish.xds import outbound as module
from pilotfish.xds.audience import Audience
from pilotfish.xds.outbound import outbound
from pilotfish.xds.settings import ProxySettings

NAMESPACES = ("a", "b", "c")


def made(kind: AnyKind, name: str, spec: Document) -> Object:
    metadata = {"name": name, "namespace": "a"}
    document: Document = {"metadata": metadata, "spec": spec}
    return decode(kind, document)


def objects() -> list[Object]:
    port = {"name": "http", "port": 80}
    entry_port = {"name": "tls", "number": 443, "protocol": "TLS"}
    rule = {"host": "ruled", "exportTo": ["."], "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}
    routes = [{"match": [{"sourceNamespace": "b"}], "timeout": "1s", "route": [{"destination": {"host": "plain"}}]}]
    return [
        made(kinds.SERVICE, "plain", {"clusterIP": "10.1.0.1", "ports": [port]}),
        made(kinds.SERVICE, "ruled", {"clusterIP": "10.1.0.2", "ports": [{"name": "any", "port": 9}]}),
        made(kinds.SERVICE, "routed", {"clusterIP": "10.1.0.3", "ports": [port]}),
        made(kinds.SERVICE, "alias", {"type": "ExternalName", "externalName": "plain.a.svc.cluster.local"}),
        made(kinds.SERVICE_ENTRY, "entry", {"hosts": ["x.test"], "ports": [entry_port], "resolution": "DNS"}),
        made(kinds.DESTINATION_RULE, "ruled", rule),
        made(kinds.VIRTUAL_SERVICE, "routed", {"hosts": ["routed"], "http": routes}),
    ]


@pytest.mark.parametrize("ipv6", [False, True])
def test_each_namespace_has_what_it_would_have_by_itself(ipv6: bool) -> None:
    model = Model()
    model.apply((None, obj) for obj in objects())
    shared = 0
    for namespace in NAMESPACES:
        audience = Audience(namespace, ipv6, ProxySettings())
        for hostname in model.host_names():
            seen = model.look(audience.viewer, hostname)
            assert seen is not None
            found = outbound(seen, audience)
            assert found == module._outbound(seen, audience)
            shared += found is outbound(seen, Audience("elsewhere", ipv6, ProxySettings()))
    assert shared, "nothing was made once for several namespaces"
