"""What analyzers say. Codes, names, levels and the order of arguments are Istio's; the words are ours.

(Istio: pkg/config/analysis/msg/messages.yaml)
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pilotfish.api.errors import FieldError
from pilotfish.api.meta import Object

Path = tuple[str | int, ...]
"""Where in an object: names of fields and keys, and positions in lists."""

DOCUMENTATION = "https://istio.io/latest/docs/reference/config/analysis"


class Level(enum.IntEnum):
    """How bad it is; the worst is the smallest."""

    ERROR = 0
    WARNING = 1
    INFO = 2

    @property
    def word(self) -> str:
        return self.name.capitalize()


@dataclass(frozen=True)
class MessageType:
    """One thing that can be wrong. `template` has a place for each argument (str.format)."""

    name: str
    code: str
    level: Level
    template: str

    @property
    def documentation(self) -> str:
        return f"{DOCUMENTATION}/{self.code.lower()}/"

    def about(self, obj: Object, *arguments: Any, at: Path = ()) -> Message:
        """A message about an object; `at` is the field that is to be changed, where one can be told."""
        return Message(self, obj, tuple(map(_shown, arguments)), at)


@dataclass(frozen=True)
class Message:
    """One finding."""

    type: MessageType
    object: Object
    arguments: tuple[str, ...] = ()
    path: Path = ()

    @property
    def text(self) -> str:
        return self.type.template.format(*self.arguments)

    @property
    def origin(self) -> str:
        """What it is about, as istioctl names it: "VirtualService shop/web", "Namespace shop"."""
        return origin_of(self.object)

    @property
    def namespace(self) -> str:
        """The namespace that it belongs to; that of a Namespace is itself."""
        return self.object.name if self.object.kind == "Namespace" else self.object.namespace

    @property
    def order(self) -> tuple[int, str, str, str, str]:
        """Sorts the worst first, then by code and object."""
        obj = self.object
        return self.type.level, self.type.code, f"{obj.kind}/{obj.name}/{obj.namespace}", self.origin, self.text


def origin_of(obj: Object) -> str:
    return f"{obj.kind} {obj.namespace}/{obj.name}" if obj.namespace else f"{obj.kind} {obj.name}"


def full_name(obj: Object) -> str:
    """An object among those of its kind: "namespace/name", or "name"."""
    return f"{obj.namespace}/{obj.name}" if obj.namespace else obj.name


def path_of(error: FieldError) -> Path:
    """The path of a field error, whose text is e.g. "spec.ports[0].protocol"."""
    steps = re.findall(r"\[([^\]]*)\]|([^.\[\]]+)", error.path)
    return tuple(int(key) if key.isdecimal() else key or name for key, name in steps)


def _shown(argument: Any) -> str:
    if isinstance(argument, str):
        return argument
    return ", ".join(map(str, argument)) if isinstance(argument, Collection) else str(argument)


_E, _W, _I = Level.ERROR, Level.WARNING, Level.INFO

DEPRECATED = MessageType("Deprecated", "IST0002", _W, "Deprecated: {}")
REFERENCED_RESOURCE_NOT_FOUND = MessageType(
    "ReferencedResourceNotFound", "IST0101", _E, 'The {} that this refers to does not exist: "{}"'
)
NAMESPACE_NOT_INJECTED = MessageType(
    "NamespaceNotInjected", "IST0102", _I,
    "Pods of this namespace get no sidecar: label it with `kubectl label namespace {} istio-injection=enabled`, or "
    "with `kubectl label namespace {} istio-injection=disabled` if that is meant.",
)  # fmt: skip
POD_MISSING_PROXY = MessageType(
    "PodMissingProxy", "IST0103", _W,
    "The pod {} should have a sidecar and has none: it is older than what asks for one. Delete it or restart its "
    "workload.",
)  # fmt: skip
SCHEMA_VALIDATION_ERROR = MessageType("SchemaValidationError", "IST0106", _E, "Not valid: {}")
MISPLACED_ANNOTATION = MessageType(
    "MisplacedAnnotation", "IST0107", _W, "The annotation {} has no effect here: it belongs on {}"
)
UNKNOWN_ANNOTATION = MessageType("UnknownAnnotation", "IST0108", _W, "Istio knows no annotation {}")
CONFLICTING_MESH_GATEWAY_HOSTS = MessageType(
    "ConflictingMeshGatewayVirtualServiceHosts", "IST0109", _E,
    "The VirtualServices {} are all for sidecars and for the host {}: which one counts is undefined. Make one of them.",
)  # fmt: skip
CONFLICTING_SIDECAR_SELECTORS = MessageType(
    "ConflictingSidecarWorkloadSelectors", "IST0110", _E,
    'The Sidecars {} of the namespace "{}" select the same pod "{}": which one counts is undefined.',
)  # fmt: skip
MULTIPLE_SIDECARS_WITHOUT_SELECTOR = MessageType(
    "MultipleSidecarsWithoutWorkloadSelectors", "IST0111", _E,
    'The Sidecars {} of the namespace "{}" all select every pod: which one counts is undefined.',
)  # fmt: skip
PORT_SELECTOR_REQUIRED = MessageType(
    "VirtualServiceDestinationPortSelectorRequired", "IST0112", _E,
    'The service "{}" has the ports {}: say which one the route is for.',
)  # fmt: skip
DEPLOYMENT_OF_MULTIPLE_SERVICES = MessageType(
    "DeploymentAssociatedToMultipleServices", "IST0116", _W,
    "Services use port {1} of the deployment {0} with different protocols: {2}",
)  # fmt: skip
PORT_NAME_CONVENTION = MessageType(
    "PortNameIsNotUnderNamingConvention", "IST0118", _I,
    "The name of port {} (port: {}, targetPort: {}) tells no protocol, so the proxy looks at what comes: begin it with "
    "one, such as http-, or set appProtocol.",
)  # fmt: skip
MULTIPLE_INJECTION_LABELS = MessageType(
    "NamespaceMultipleInjectionLabels", "IST0123", _W,
    "The namespace's labels {} each ask for another kind of injection: keep one of them.",
)  # fmt: skip
INVALID_ANNOTATION = MessageType("InvalidAnnotation", "IST0125", _W, "The annotation {} cannot be used: {}")
NO_MATCHING_WORKLOADS = MessageType("NoMatchingWorkloadsFound", "IST0127", _W, "No workload has the labels {}")
NO_SERVER_VERIFICATION = MessageType(
    "NoServerCertificateVerificationDestinationLevel", "IST0128", _W,
    "DestinationRule {} of the namespace {} begins TLS ({}) without caCertificates: whoever has a certificate for {} "
    "from one of the system's CAs is trusted.",
)  # fmt: skip
NO_SERVER_VERIFICATION_ON_PORT = MessageType(
    "NoServerCertificateVerificationPortLevel", "IST0129", _W,
    "DestinationRule {} of the namespace {} begins TLS ({}) without caCertificates: whoever has a certificate for {}, "
    "at port {}, from one of the system's CAs is trusted.",
)  # fmt: skip
UNREACHABLE_RULE = MessageType("VirtualServiceUnreachableRule", "IST0130", _W, "The rule {} is never used: {}.")
INEFFECTIVE_MATCH = MessageType(
    "VirtualServiceIneffectiveMatch", "IST0131", _I,
    "Match {1} of rule {0} has no effect: {2} takes all of its requests before it.",
)  # fmt: skip
HOST_NOT_FOUND_IN_GATEWAY = MessageType(
    "VirtualServiceHostNotFoundInGateway", "IST0132", _W,
    "None of the hosts {} of VirtualService {} is a host of Gateway {}.",
)  # fmt: skip
SCHEMA_WARNING = MessageType("SchemaWarning", "IST0133", _W, "Probably not meant: {}")
SERVICE_ENTRY_ADDRESSES_REQUIRED = MessageType(
    "ServiceEntryAddressesRequired", "IST0134", _W,
    "A TCP port needs an address by which its host is told from others: set spec.addresses, or switch automatic "
    "allocation on.",
)  # fmt: skip
DEPRECATED_ANNOTATION = MessageType(
    "DeprecatedAnnotation", "IST0135", _I, 'The annotation "{}" is deprecated{} and may stop working.'
)
ALPHA_ANNOTATION = MessageType(
    "AlphaAnnotation", "IST0136", _I, 'The annotation "{}" belongs to a feature in its alpha phase.'
)
DEPLOYMENT_CONFLICTING_PORTS = MessageType(
    "DeploymentConflictingPorts", "IST0137", _W,
    'The services {1} have the targetPort "{2}" of the deployment {0} under different ports: {3}',
)  # fmt: skip
GATEWAY_DUPLICATE_CERTIFICATE = MessageType(
    "GatewayDuplicateCertificate", "IST0138", _W,
    "The Gateways {} share a certificate: a client that reuses an HTTP/2 connection for both gets 404.",
)  # fmt: skip
INGRESS_ROUTE_NOT_AFFECTED = MessageType(
    "IngressRouteRulesNotAffected", "IST0140", _W,
    "The subsets of VirtualService {} do not count for requests through the gateways of {}, which routes to the same "
    "host without one.",
)  # fmt: skip
INVALID_APPLICATION_UID = MessageType(
    "InvalidApplicationUID", "IST0144", _W, "The user 1337 is the proxy's own: nothing that it sends is captured."
)
CONFLICTING_GATEWAYS = MessageType(
    "ConflictingGateways", "IST0145", _E,
    "The Gateways {} have the same selector ({}), port ({}) and hosts ({}).",
)  # fmt: skip
IMAGE_AUTO_WARNING = MessageType(
    "ImageAutoWithoutInjectionWarning", "IST0146", _W,
    "{} {} has a container with `image: auto`, and its pods are not injected.",
)  # fmt: skip
IMAGE_AUTO_ERROR = MessageType(
    "ImageAutoWithoutInjectionError", "IST0147", _E, "{} {} has a container with `image: auto`, and was not injected."
)
INJECTION_BY_DEFAULT = MessageType(
    "NamespaceInjectionEnabledByDefault", "IST0148", _I,
    "Pods of this namespace get sidecars because enableNamespacesByDefault is set.",
)  # fmt: skip
EXTERNAL_NAME_PORT = MessageType(
    "ExternalNameServiceTypeInvalidPortName", "IST0150", _W,
    "A port of an ExternalName service that is TCP, or tells no protocol, may take traffic for other hosts: name it "
    "for its protocol.",
)  # fmt: skip
RELATIVE_OPERATION = MessageType(
    "EnvoyFilterUsesRelativeOperation", "IST0151", _W,
    "The patch counts on what others have put there, and no priority says that it comes after them: set priority, or "
    "use INSERT_FIRST or ADD.",
)  # fmt: skip
REPLACE_INCORRECT = MessageType(
    "EnvoyFilterUsesReplaceOperationIncorrectly", "IST0152", _E,
    "REPLACE is for HTTP_FILTER, NETWORK_FILTER and VIRTUAL_HOST alone.",
)  # fmt: skip
ADD_INCORRECT = MessageType(
    "EnvoyFilterUsesAddOperationIncorrectly", "IST0153", _E,
    "ADD does nothing for ROUTE_CONFIGURATION and HTTP_ROUTE.",
)  # fmt: skip
REMOVE_INCORRECT = MessageType(
    "EnvoyFilterUsesRemoveOperationIncorrectly", "IST0154", _E,
    "REMOVE does nothing for ROUTE_CONFIGURATION and HTTP_ROUTE.",
)  # fmt: skip
RELATIVE_OPERATION_WITH_VERSION = MessageType(
    "EnvoyFilterUsesRelativeOperationWithProxyVersion", "IST0155", _W,
    "The patch counts on another for a certain proxyVersion, and may find nothing during an upgrade: set priority, or "
    "use INSERT_FIRST or ADD.",
)  # fmt: skip
INVALID_TELEMETRY_PROVIDER = MessageType(
    "InvalidTelemetryProvider", "IST0157", _W,
    'Telemetry {} of the namespace "{}" names no provider, and the mesh has no default one: it has no effect.',
)  # fmt: skip
PROXY_IMAGE_MISMATCH = MessageType(
    "PodsIstioProxyImageMismatchInNamespace", "IST0158", _W,
    "The proxies of these pods are of another image than injection gives now: {}. Restart their workloads.",
)  # fmt: skip
CONFLICTING_TELEMETRY_SELECTORS = MessageType(
    "ConflictingTelemetryWorkloadSelectors", "IST0159", _E,
    'The Telemetries {} of the namespace "{}" select the same pod "{}": which one counts is undefined.',
)  # fmt: skip
MULTIPLE_TELEMETRIES_WITHOUT_SELECTOR = MessageType(
    "MultipleTelemetriesWithoutWorkloadSelectors", "IST0160", _E,
    'The Telemetries {} of the namespace "{}" all select every pod: which one counts is undefined.',
)  # fmt: skip
INVALID_GATEWAY_CREDENTIAL = MessageType(
    "InvalidGatewayCredential", "IST0161", _E,
    "The Secret that Gateway {} names in the namespace {} holds no certificate and key that can be used.",
)  # fmt: skip
GATEWAY_PORT_NOT_ON_SERVICE = MessageType(
    "GatewayPortNotDefinedOnService", "IST0162", _W,
    "No Service in front of the gateway's pods ({1}) leads to port {0}.",
)  # fmt: skip
REFERENCED_INTERNAL_GATEWAY = MessageType(
    "ReferencedInternalGateway", "IST0165", _W,
    "VirtualService {} refers to the Gateway {}, which was made from another object and may change.",
)  # fmt: skip
NEGATIVE_CONDITION = MessageType(
    "NegativeConditionStatus", "IST0171", _W, "Its status says that something is not as it should be: {} ({}): {}"
)
SUBSET_SELECTS_NO_PODS = MessageType(
    "DestinationRuleSubsetNotSelectPods", "IST0173", _E,
    "The subset {} has no endpoints: no workload of the host has its labels.",
)  # fmt: skip
UNKNOWN_DESTINATION_RULE_HOST = MessageType(
    "UnknownDestinationRuleHost", "IST0174", _W, "No service of the mesh has the host {}."
)
CONFLICTING_SERVICE_ENTRY_PROTOCOL = MessageType(
    "ConflictingServiceEntryProtocol", "IST0177", _W,
    'The ServiceEntries {} have the same host "{}" and port {} with different protocols ({}).',
)  # fmt: skip

TYPES: dict[str, MessageType] = {
    value.code: value for value in list(globals().values()) if isinstance(value, MessageType)
}
"""All of them by code."""
