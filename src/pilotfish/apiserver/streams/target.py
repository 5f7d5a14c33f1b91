"""From the names in a request to a container on a node."""

from __future__ import annotations

from dataclasses import dataclass

from pilotfish.api.core import Node
from pilotfish.api.decode import decode_bytes
from pilotfish.api.errors import ApiError, BadRequest, NotFound
from pilotfish.api.kinds import NODE, POD
from pilotfish.api.pods import ContainerStatus, Pod
from pilotfish.apiserver.resources import Resources

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


@dataclass(frozen=True)
class Target:
    """A pod, one of its containers ("" for none in particular), and where its node's API is, e.g. 10.0.0.1:10250."""

    pod: Pod
    container: str
    node: str

    def path(self, operation: str) -> str:
        """The path of an operation in the node's API."""
        path = f"/{operation}/{self.pod.namespace}/{self.pod.name}"
        return f"{path}/{self.container}" if self.container else path


def find_pod(resources: Resources, namespace: str, name: str) -> Pod:
    """Raises NotFound."""
    return decode_bytes(POD, resources.get(POD, namespace, name).body)


def find_container(pod: Pod, asked: str) -> str:
    """The container asked for, or the one that goes without saying.

    Raises BadRequest in Kubernetes' words (registry/core/pod: validateContainer). Other than there, the annotation that
    kubectl heeds counts here too, so that every client has the same default.
    """
    names = [container.name for container in pod.spec.containers]
    initial = [container.name for container in pod.spec.init_containers]
    if asked:
        if asked not in (*names, *initial):
            raise BadRequest(f"container {asked} is not valid for pod {pod.name}")
        return asked
    default = (pod.metadata.annotations or {}).get(DEFAULT_CONTAINER, "")
    if default in names:
        return default
    if len(names) == 1:
        return names[0]
    choice = f", choose one of: [{' '.join(names)}]" if names else ""
    if initial:
        choice += f" or one of the init containers: [{' '.join(initial)}]"
    raise BadRequest(f"a container name must be specified for pod {pod.name}{choice}")


def node_address(resources: Resources, pod: Pod) -> str:
    """Where the API of the pod's node is, as host:port. Raises BadRequest while it has no node, ApiError (500) when the
    node is unknown or has not told its address."""
    name = pod.spec.node_name
    if not name:
        raise BadRequest(f"pod {pod.name} does not have a host assigned")
    try:
        node: Node = decode_bytes(NODE, resources.get(NODE, "", name).body)
    except NotFound as error:
        raise ApiError(f"error dialing backend: node {name} of pod {pod.name} is unknown: {error.message}") from error
    address, port = node.address("InternalIP"), node.status.daemon_endpoints.kubelet_endpoint.port
    if not address or not port:
        raise ApiError(
            f"error dialing backend: node {name} has not told where its API is "
            "(status.addresses, status.daemonEndpoints); its agent may not be running"
        )
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def why_no_log(pod: Pod, container: str, *, previous: bool) -> BadRequest:
    """Why a container has no log to show (Kubernetes: the kubelet's validateContainerLogStatus)."""
    where = f'container "{container}" in pod "{pod.name}"'
    if previous:
        return BadRequest(f"previous terminated {where} not found")
    status = _status_of(pod, container)
    if status is None:
        return BadRequest(f"{where} is not available")
    waiting = status.state.waiting
    match waiting.reason if waiting is not None else "":
        case "":
            return BadRequest(f"{where} is waiting to start - no logs yet")
        case "ErrImagePull":
            return BadRequest(f"{where} is waiting to start: image can't be pulled")
        case "ImagePullBackOff":
            return BadRequest(f"{where} is waiting to start: trying and failing to pull image")
        case reason:
            return BadRequest(f"{where} is waiting to start: {reason}")


def _status_of(pod: Pod, container: str) -> ContainerStatus | None:
    statuses = (*pod.status.container_statuses, *pod.status.init_container_statuses)
    return next((status for status in statuses if status.name == container), None)
