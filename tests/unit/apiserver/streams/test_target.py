from __future__ import annotations

import datetime as dt

import pytest
from starlette.requests import Request

from pilotfish.api.errors import BadRequest, Invalid
from pilotfish.api.meta import ObjectMeta
from pilotfish.api.pods import (
    Container,
    ContainerState,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
    PodSpec,
    PodStatus,
)
from pilotfish.apiserver.streams.logs import node_query
from pilotfish.apiserver.streams.target import DEFAULT_CONTAINER, find_container, why_no_log

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def pod(*names: str, initial: tuple[str, ...] = (), default: str = "", waiting: str | None = None) -> Pod:
    state = ContainerState(waiting=ContainerStateWaiting(waiting)) if waiting is not None else ContainerState()
    return Pod(
        metadata=ObjectMeta(name="web", annotations={DEFAULT_CONTAINER: default} if default else {}),
        spec=PodSpec(
            containers=tuple(Container(name) for name in names),
            init_containers=tuple(Container(name) for name in initial),
        ),
        status=PodStatus(container_statuses=(ContainerStatus("a", state),)),
    )


def test_the_container_that_goes_without_saying() -> None:
    assert find_container(pod("a"), "") == "a"
    assert find_container(pod("a", "b", default="b"), "") == "b"
    assert find_container(pod("a", initial=("i",)), "i") == "i"


@pytest.mark.parametrize(
    ("of", "asked", "message"),
    [
        (pod("a", "b"), "", "a container name must be specified for pod web, choose one of: [a b]"),
        (
            pod("a", "b", initial=("i", "j")),
            "",
            "a container name must be specified for pod web, choose one of: [a b] or one of the init containers: [i j]",
        ),
        (pod("a", "b", default="gone"), "", "a container name must be specified for pod web, choose one of: [a b]"),
        (pod("a"), "x", "container x is not valid for pod web"),
    ],
)
def test_a_container_that_is_not_clear_is_refused_in_kubernetes_words(of: Pod, asked: str, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        find_container(of, asked)
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("waiting", "previous", "message"),
    [
        ("ContainerCreating", False, 'container "a" in pod "web" is waiting to start: ContainerCreating'),
        ("ErrImagePull", False, 'container "a" in pod "web" is waiting to start: image can\'t be pulled'),
        ("ImagePullBackOff", False, 'container "a" in pod "web" is waiting to start: trying and failing to pull image'),
        (None, False, 'container "a" in pod "web" is waiting to start - no logs yet'),
        (None, True, 'previous terminated container "a" in pod "web" not found'),
    ],
)
def test_why_there_is_no_log(waiting: str | None, previous: bool, message: str) -> None:
    assert why_no_log(pod("a", waiting=waiting), "a", previous=previous).message == message


def log_request(query: str) -> Request:
    scope = {"type": "http", "query_string": query.encode(), "headers": [], "path_params": {"name": "web"}}
    return Request(scope)


def test_log_options_become_the_nodes() -> None:
    asked = dict(node_query(log_request("follow=true&tailLines=0&limitBytes=9&sinceSeconds=5&previous=true"), NOW))
    assert asked == {
        "follow": "true",
        "previous": "true",
        "tailLines": "0",
        "limitBytes": "9",
        "sinceTime": "2026-01-02T03:04:00+00:00",
        "stream": "All",
    }


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=0", "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", "at most one of `sinceTime` or `sinceSeconds`"),
        ("sinceTime=yesterday", 'sinceTime: Invalid value: "yesterday"'),
        ("stream=Both", 'stream: Unsupported value: "Both": supported values: "All", "Stderr", "Stdout"'),
    ],
)
def test_bad_log_options_are_named(query: str, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        node_query(log_request(query), NOW)
    assert message in refused.value.message
