"""The variables by which a pod's proxy tells others, and its own reports, who its workload is."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
from google.protobuf import struct_pb2
from google.protobuf.json_format import ParseDict

from pilotfish.api.peer import PEER_FIELDS, UNKNOWN, Variable, peer_fields
from pilotfish.node.bootstrap import ProxyBootstrap
from pilotfish.node.runtime import ContainerSpec

OTEL_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"


def introduced(spec: ContainerSpec, proxy: ProxyBootstrap) -> ContainerSpec:
    """The proxy's process, with an environment that says who its workload is."""
    known = environment(proxy.metadata, proxy.cluster, spec.env)
    return msgspec.structs.replace(spec, env={**spec.env, **known})


def environment(metadata: Mapping[str, Any], service: str, given: Mapping[str, str]) -> dict[str, str]:
    """What to add to a proxy's environment; `given` is what is there already.

    `metadata` is the node's, as Envoy tells it to the control plane; `service` is what the workload's spans are called.
    """
    labels = metadata.get("LABELS") or {}
    workload = str(metadata.get("WORKLOAD_NAME") or metadata.get("NAME") or "")
    fields = peer_fields(workload, str(metadata.get("NAMESPACE", "")), labels, str(metadata.get("CLUSTER_ID") or ""))
    told = ParseDict(fields, struct_pb2.Value()).SerializeToString(deterministic=True)
    # Attributes of the user's own come later and win.
    attributes = ",".join(filter(None, (f"service.name={service}", given.get(OTEL_ATTRIBUTES))))
    return {
        **{variable.value: fields[name] for name, variable in PEER_FIELDS.items()},
        Variable.MESH.value: str(metadata.get("MESH_ID") or UNKNOWN),
        Variable.PEER.value: base64.b64encode(told).decode(),
        Variable.UNKNOWN.value: UNKNOWN,
        OTEL_ATTRIBUTES: attributes,
        "DD_SERVICE": given.get("DD_SERVICE", service),
    }
