from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from pilotfish.api.errors import Conflict
from pilotfish.api.kinds import CONFIG_MAP, DEPLOYMENT, SCHEME, SERVICE_ENTRY
from pilotfish.api.meta import Document
from pilotfish.apiserver.bootstrap import ensure_default_objects
from pilotfish.apiserver.fieldsets import from_fields_v1, leaves, shown, to_fields_v1
from pilotfish.apiserver.listtypes import Shape
from pilotfish.apiserver.managers import LAST_APPLIED
from pilotfish.apiserver.patch import merge_patch
from pilotfish.apiserver.resources import Resources, WriteOptions, Written
from pilotfish.store.memory import MemoryStore


def manifest(image: str = "i:1", replicas: int | None = 2, **env: str) -> Document:
    container: Document = {"name": "c", "image": image}
    if env:
        container["env"] = [{"name": name, "value": value} for name, value in env.items()]
    spec: Document = {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [container]}},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


def by(manager: str, *, force: bool = False) -> WriteOptions:
    return WriteOptions(field_manager=manager, force=force)


def object_of(written: Written) -> Document:
    document: Document = msgspec.json.decode(written.body)
    return document


def container_of(document: Document) -> Document:
    container: Document = document["spec"]["template"]["spec"]["containers"][0]
    return container


def with_deployments(test: Any) -> None:
    async def body() -> None:
        resources = Resources(MemoryStore(), SCHEME)
        await ensure_default_objects(resources)

        async def apply(config: Document, options: WriteOptions) -> Document:
            return object_of(await resources.apply(DEPLOYMENT, "default", "d", config, options))

        await test(resources, apply)

    asyncio.run(body())


def test_the_first_apply_creates_and_owns() -> None:
    async def test(resources: Resources, apply: Any) -> None:
        written = await resources.apply(DEPLOYMENT, "default", "d", manifest(), by("a"))
        assert written.created
        (entry,) = object_of(written)["metadata"]["managedFields"]
        assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("a", "Apply", "apps/v1")
        assert entry["fieldsV1"]["f:spec"]["f:replicas"] == {}
        assert "f:strategy" not in entry["fieldsV1"]["f:spec"], "defaults have no owner"
        before = resources.store.revision
        await apply(manifest(), by("a"))
        assert resources.store.revision == before, "the same again writes nothing"

    with_deployments(test)


def test_an_object_of_which_nobody_owns_anything_is_applied_again() -> None:
    async def test(resources: Resources, apply: Any) -> None:
        config: Document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
        for created in (True, False):
            written = await resources.apply(CONFIG_MAP, "default", "c", config, by("a"))
            assert written.created is created
            assert "managedFields" not in object_of(written)["metadata"]

    with_deployments(test)


def test_what_is_applied_no_more_is_removed() -> None:
    async def test(resources: Resources, apply: Any) -> None:
        await apply(manifest(A="1", B="2"), by("a"))
        changed = await apply(manifest(B="2", C="3"), by("a"))
        assert container_of(changed)["env"] == [{"name": "B", "value": "2"}, {"name": "C", "value": "3"}]
        assert "env" not in container_of(await apply(manifest(), by("a")))

    with_deployments(test)


def test_a_field_of_another_manager_conflicts_unless_forced() -> None:
    async def test(resources: Resources, apply: Any) -> None:
        await apply(manifest(), by("a"))
        await resources.update(
            DEPLOYMENT, "default", "d", lambda old: merge_patch(old, {"spec": {"replicas": 5}}), by("scaler")
        )
        with pytest.raises(Conflict) as caught:
            await apply(manifest(), by("a"))
        assert caught.value.message == (
            'Apply failed with 1 conflict: conflict with "scaler" using apps/v1: .spec.replicas'
        )
        (cause,) = caught.value.details["causes"]
        assert cause == {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "scaler" using apps/v1',
            "field": ".spec.replicas",
        }
        assert (await apply(manifest(replicas=5), by("a")))["spec"]["replicas"] == 5, "agreement is no conflict"
        forced = await apply(manifest(replicas=3), by("a", force=True))
        assert forced["spec"]["replicas"] == 3
        assert [m["manager"] for m in forced["metadata"]["managedFields"]] == ["a"]

    with_deployments(test)


def test_what_another_manager_owns_too_stays() -> None:
    async def test(resources: Resources, apply: Any) -> None:
        await apply(manifest(A="1"), by("a"))
        await apply(manifest(A="1", B="2"), by("b"))
        left = await apply(manifest(), by("b"))
        assert container_of(left)["env"] == [{"name": "A", "value": "1"}]

    with_deployments(test)


def test_kubectl_takes_over_from_its_own_client_side_apply() -> None:
    async def test(resources: Resources, apply: Any) -> None:
        sent = manifest()
        annotated = {
            **sent,
            "metadata": {"name": "d", "annotations": {LAST_APPLIED: msgspec.json.encode(sent).decode()}},
        }
        await resources.create(DEPLOYMENT, "default", annotated)
        assert container_of(await apply(manifest("i:2"), by("kubectl")))["image"] == "i:2"
        with pytest.raises(Conflict, match="kubectl"):
            await apply(manifest("i:3"), by("someone"))

    with_deployments(test)


def test_lists_of_istio_s_kinds_are_owned_as_a_whole() -> None:
    spec = {"hosts": ["a.example.com"], "ports": [{"number": 80, "name": "http"}]}
    paths = [path for path, _ in leaves({"spec": spec}, Shape(type=SERVICE_ENTRY.type))]
    assert paths == [("f:spec", "f:hosts"), ("f:spec", "f:ports")]


def test_field_sets_have_kubernetes_form() -> None:
    document = {"spec": {"template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}}}
    fields = frozenset(path for path, _ in leaves(document, Shape(type=DEPLOYMENT.type)))
    written = to_fields_v1(fields)
    container = written["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']
    port = container["f:ports"]['k:{"containerPort":80,"protocol":"TCP"}']
    assert container["."] == {}
    assert port == {".": {}, "f:containerPort": {}}
    assert from_fields_v1(written) == fields
    longest = max(fields, key=len)
    assert shown(longest) == (
        '.spec.template.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].containerPort'
    )
