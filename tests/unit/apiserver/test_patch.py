from __future__ import annotations

from typing import Any

import pytest

from pilotfish.api.apps import Deployment
from pilotfish.api.core import Service
from pilotfish.api.errors import BadRequest, Invalid
from pilotfish.api.pods import Pod
from pilotfish.apiserver.listtypes import Shape
from pilotfish.apiserver.patch import json_patch, merge_patch
from pilotfish.apiserver.strategic import strategic_merge_patch

POD_SHAPE = Shape(type=Pod)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": None, "e": 4}}, {"a": 1, "b": {"d": 3, "e": 4}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/l/-", "value": 3}], {"l": [1, 2, 3], "m": {"a/b": 1}}),
        ([{"op": "add", "path": "/l/0", "value": 0}], {"l": [0, 1, 2], "m": {"a/b": 1}}),
        ([{"op": "replace", "path": "/m/a~1b", "value": 5}], {"l": [1, 2], "m": {"a/b": 5}}),
        ([{"op": "remove", "path": "/l/1"}], {"l": [1], "m": {"a/b": 1}}),
        ([{"op": "move", "from": "/m/a~1b", "path": "/n"}], {"l": [1, 2], "m": {}, "n": 1}),
        ([{"op": "copy", "from": "/l", "path": "/k"}], {"l": [1, 2], "m": {"a/b": 1}, "k": [1, 2]}),
        ([{"op": "test", "path": "/l/0", "value": 1}], {"l": [1, 2], "m": {"a/b": 1}}),
    ],
)
def test_json_patch(operations: Any, result: Any) -> None:
    target = {"l": [1, 2], "m": {"a/b": 1}}
    assert json_patch(target, operations) == result
    assert target == {"l": [1, 2], "m": {"a/b": 1}}, "the target is left as it was"


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/nothing"},
        {"op": "replace", "path": "/nothing", "value": 1},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "add", "path": "/a/b", "value": 2},
        {"op": "add", "path": "a", "value": 2},
        {"op": "fly", "path": "/a"},
        {"op": "add", "path": "/a"},
    ],
)
def test_a_json_patch_that_fails_is_invalid(operation: Any) -> None:
    with pytest.raises(Invalid):
        json_patch({"a": 1}, [operation])


def test_a_json_patch_is_a_list_of_operations() -> None:
    with pytest.raises(BadRequest):
        json_patch({}, {"op": "add"})


def containers(*items: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(items), **spec}}


def test_lists_merge_by_their_key() -> None:
    target = containers({"name": "a", "image": "1"}, {"name": "b", "image": "1"})
    patch = containers({"name": "b", "image": "2"}, {"name": "c", "image": "3"})
    merged = strategic_merge_patch(target, patch, POD_SHAPE)
    assert [(c["name"], c["image"]) for c in merged["spec"]["containers"]] == [("a", "1"), ("b", "2"), ("c", "3")]


def test_items_can_be_deleted_and_replaced() -> None:
    target = containers({"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"})
    merged = strategic_merge_patch(target, containers({"name": "a", "$patch": "delete"}), POD_SHAPE)
    assert merged == containers({"name": "b"})
    merged = strategic_merge_patch(target, containers({"$patch": "replace"}, {"name": "c"}), POD_SHAPE)
    assert merged == containers({"name": "c"})
    merged = strategic_merge_patch(target, containers({"name": "a", "image": "2", "$patch": "replace"}), POD_SHAPE)
    assert merged["spec"]["containers"][0] == {"name": "a", "image": "2"}


def test_the_order_of_items_is_the_patch_s() -> None:
    target = containers({"name": "a"}, {"name": "x"}, {"name": "b"})
    patch = containers({"name": "c"}, **{"$setElementOrder/containers": [{"name": n} for n in ("c", "b", "a")]})
    merged = strategic_merge_patch(target, patch, POD_SHAPE)
    names = [c["name"] for c in merged["spec"]["containers"]]
    assert [n for n in names if n != "x"] == ["c", "b", "a"]
    assert names[names.index("a") + 1] == "x", "what the patch does not know stays behind what it stood behind"


def test_sets_of_plain_values() -> None:
    target = {"metadata": {"finalizers": ["a", "b"]}}
    added = strategic_merge_patch(target, {"metadata": {"finalizers": ["b", "c"]}}, POD_SHAPE)
    assert added["metadata"]["finalizers"] == ["a", "b", "c"]
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic_merge_patch(target, patch, POD_SHAPE)["metadata"]["finalizers"] == ["b"]


def test_retained_keys_drop_the_others() -> None:
    target = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    merged = strategic_merge_patch(target, patch, Shape(type=Deployment))
    assert merged == {"spec": {"strategy": {"type": "Recreate"}}}


def test_lists_without_a_key_are_replaced() -> None:
    target = containers({"name": "a", "args": ["1", "2"]})
    merged = strategic_merge_patch(target, containers({"name": "a", "args": ["3"]}), POD_SHAPE)
    assert merged["spec"]["containers"][0]["args"] == ["3"]


def test_an_item_without_its_key_is_refused() -> None:
    with pytest.raises(BadRequest, match="does not contain declared merge key: port"):
        strategic_merge_patch({"spec": {}}, {"spec": {"ports": [{"name": "x"}]}}, Shape(type=Service))
