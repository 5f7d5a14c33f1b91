"""What of MeshConfig is accepted and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.api.decode import present_paths
from pilotfish.api.meta import Document

_OF_DEFAULT_CONFIG = (
    "configPath",
    "controlPlaneAuthPolicy",
    "discoveryAddress",
    "interceptionMode=TPROXY",
    "privateKeyProvider",
    "proxyBootstrapTemplatePath",
    "readinessProbe",
)
_OF_PROVIDERS = ("envoyExtAuthzHttp", "envoyExtAuthzGrpc", "sds")

YET = frozenset(
    {
        "ca",
        "caCertificates",
        "configSources",
        "hboneIdleTimeout",
        "ingressClass",
        "ingressControllerMode",
        "ingressSelector",
        "ingressService",
        "outboundTrafficPolicy.tls.credentialName",
        "serviceEntryVisibility",
        "serviceScopeConfigs",
        "serviceSettings",
        *(f"defaultConfig.{name}" for name in _OF_DEFAULT_CONFIG),
        *(f"extensionProviders[].{name}" for name in _OF_PROVIDERS),
    }
)
"""Fields, by path, that Istio honours and this mesh does not yet."""

_NO_SUCH_TRACER = "Envoy has no such tracer any more"
_FILES_ALONE = "in a proxy's bootstrap, certificates in files alone are read"
_NOTHING_READS_IT = "nothing of Istio reads it"

ISTIO_NEITHER: Mapping[str, str] = {
    "certificates": _NOTHING_READS_IT,
    "meshMTLS.ecdhCurves": "refused: the curves of the mesh's own mutual TLS cannot be chosen",
    "verifyCertificateAtClient": _NOTHING_READS_IT,
    "defaultConfig.availabilityZone": _NOTHING_READS_IT,
    "defaultConfig.caCertificatesPem": "the control plane itself fills it in for its agents, from caCertificates",
    "defaultConfig.connectionSettings.listenerConnectionLimit": _NOTHING_READS_IT,
    "defaultConfig.discoveryRefreshDelay": _NOTHING_READS_IT,
    "defaultConfig.meshId": f"{_NOTHING_READS_IT}: a mesh is named by the installation's value global.meshID",
    "defaultConfig.sds": _NOTHING_READS_IT,
    "defaultConfig.statNameLength": f"{_NOTHING_READS_IT}: Envoy has no limit any more",
    "defaultConfig.zipkinAddress": f"{_NOTHING_READS_IT}: tracing.zipkin.address took its place",
    "defaultConfig.envoyMetricsServiceAddress": "envoyMetricsService took its place, and alone is read",
    **{
        f"defaultConfig.{service}.tlsSettings.{name}": _FILES_ALONE
        for service in ("envoyAccessLogService", "envoyMetricsService", "tracing")
        for name in ("caCrl", "credentialName", "insecureSkipVerify")
    },
    "defaultConfig.tracing.lightstep": _NO_SUCH_TRACER,
    "defaultConfig.tracing.openCensusAgent": _NO_SUCH_TRACER,
    "defaultConfig.tracing.stackdriver": _NO_SUCH_TRACER,
    "defaultTrafficPolicy.outlierDetection.consecutiveErrors": (
        "consecutiveGatewayErrors and consecutive5xxErrors took its place"
    ),
    "extensionProviders[].lightstep": _NO_SUCH_TRACER,
    "extensionProviders[].opencensus": _NO_SUCH_TRACER,
    "extensionProviders[].stackdriver": "Istio has no extension for it any more, and reports nothing",
}
"""Fields, by path, that change nothing in Istio either, and why."""

NOT_HONOURED = YET | ISTIO_NEITHER.keys()
"""Fields, by path, that change nothing."""


def not_honoured(document: Document) -> list[str]:
    """The fields of a MeshConfig that were given and change nothing, by path."""
    return present_paths(document, NOT_HONOURED)
