"""What spans say of their workload by OpenTelemetry's conventions for Kubernetes (Istio: serviceAttributeEnrichment).

Istio: pkg/kube/inject otelResourceAttributes, and otelServiceName for the name, which it puts into listeners.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pilotfish.api.meta import Document
from pilotfish.mesh.meshconfig import MeshConfig
from pilotfish.mesh.workload import Workload

VARIABLE = "OTEL_RESOURCE_ATTRIBUTES"
"""In the proxy's environment, where Envoy finds attributes of its spans."""

_ANNOTATION = "resource.opentelemetry.io/service."


def resource_attributes(
    mesh: MeshConfig,
    annotations: Mapping[str, str],
    labels: Mapping[str, str],
    containers: Sequence[Document],
    workload: Workload,
) -> str:
    """The value of the variable; "" where no provider of the mesh goes by the conventions. `containers` are those of
    the application.
    """
    asked = (provider.opentelemetry for provider in mesh.extension_providers)
    if not any(each and each.service_attribute_enrichment == "OTEL_SEMANTIC_CONVENTIONS" for each in asked):
        return ""
    found = dict(_attributes(labels, containers, workload))
    said = {name: annotations.get(_ANNOTATION + name) or value for name, value in found.items()}
    return ",".join(f"service.{name}={value}" for name, value in said.items() if value)


def _attributes(
    labels: Mapping[str, str], containers: Sequence[Document], workload: Workload
) -> Iterator[tuple[str, str]]:
    """What holds without an annotation, "" for nothing. A pod has its name after this, from its own variable."""
    only = containers[0] if len(containers) == 1 else {}
    name = labels.get("app.kubernetes.io/instance") or labels.get("app.kubernetes.io/name") or workload.name
    yield "name", name or only.get("name") or "unknown_service"
    yield "namespace", workload.namespace
    yield "version", labels.get("app.kubernetes.io/version") or _version(only.get("image") or "")
    yield "instance.id", f"{workload.namespace}.$(POD_NAME).{containers[0]['name']}" if containers else ""


def _version(image: str) -> str:
    """The tag and digest of an image."""
    named, at, digest = image.partition("@")
    tag = named.rpartition("/")[2].partition(":")[2]
    return f"{tag}{at if tag else ''}{digest}"
