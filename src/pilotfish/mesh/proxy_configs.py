"""ProxyConfigs: what a pod's proxy gets when it is injected (Istio: pilot/pkg/model/proxy_config.go).

Not MeshConfig's message of the same name, over which they are laid: the oldest for all of the root namespace, over it
the oldest for all of the pod's namespace, then the pod's annotation, then the oldest that selects the pod.
`selector: {}` selects all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilotfish.api import networking
from pilotfish.api.meta import Document
from pilotfish.api.proxyconfig import ProxyConfig, overlay_proxy_config
from pilotfish.mesh.meshconfig import MeshConfig


def effective(
    mesh: MeshConfig,
    configs: Iterable[networking.ProxyConfig],
    namespace: str,
    labels: Mapping[str, str],
    annotation: Document,
    path: str,
) -> ProxyConfig:
    """The settings of a pod's proxy. Raises Invalid, naming each faulty field of the pod's annotation below `path`."""
    ordered = sorted(configs, key=lambda c: (c.metadata.creation_timestamp or "", c.name))
    found = mesh.default_config
    for place in dict.fromkeys((mesh.root_namespace, namespace)):
        found = _overlaid(found, (c for c in ordered if c.namespace == place and not _selector(c)))
    found = overlay_proxy_config(found, annotation, path)
    selecting = (c for c in ordered if c.namespace == namespace and _selector(c))
    return _overlaid(found, (c for c in selecting if _selector(c).items() <= labels.items()))


def _selector(config: networking.ProxyConfig) -> Mapping[str, str]:
    return config.spec.selector.match_labels if config.spec.selector else {}


def _overlaid(base: ProxyConfig, candidates: Iterable[networking.ProxyConfig]) -> ProxyConfig:
    """With what the first of these says."""
    first = next(iter(candidates), None)
    if first is None:
        return base
    spec = first.spec
    overlay: Document = {"proxyMetadata": dict(spec.environment_variables)}
    if spec.concurrency is not None:
        overlay["concurrency"] = spec.concurrency
    if spec.image is not None:
        overlay["image"] = {"imageType": spec.image.image_type}
    return overlay_proxy_config(base, overlay)
