from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from pilotfish.api.errors import AlreadyExists, BadRequest, Conflict, Forbidden, Invalid, NotFound
from pilotfish.api.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NAMESPACE,
    NODE,
    POD,
    SCHEME,
    SERVICE_ENTRY,
)
from pilotfish.api.meta import Document
from pilotfish.api.scheme import Kind, Scheme
from pilotfish.apiserver.admission import AdmissionRequest
from pilotfish.apiserver.bootstrap import ensure_default_objects
from pilotfish.apiserver.deletion import DeleteOptions, Preconditions
from pilotfish.apiserver.fields import HONOURED
from pilotfish.apiserver.resources import Resources, WriteOptions, Written
from pilotfish.store.memory import MemoryStore


def run_with_resources(test: Any, **arguments: Any) -> Any:
    async def body() -> Any:
        resources = Resources(MemoryStore(), arguments.pop("scheme", SCHEME), **arguments)
        await ensure_default_objects(resources)
        return await test(resources)

    return asyncio.run(body())


def document_of(written: Written | Any) -> Document:
    document: Document = msgspec.json.decode(written.body)
    return document


def config(name: str = "c", **metadata: Any) -> Document:
    return {"metadata": {"name": name, **metadata}, "data": {"a": "b"}}


def pod(name: str = "p", **spec: Any) -> Document:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


def deployment(name: str = "d") -> Document:
    return {
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    }


def setting(**fields: Any) -> Any:
    """A change that sets top-level fields, and forgets the version so that it never conflicts."""

    def change(document: Document) -> Document:
        document["metadata"].pop("resourceVersion")
        return {**document, **fields}

    return change


def test_a_created_object_has_an_identity_and_defaults() -> None:
    async def test(resources: Resources) -> None:
        created = document_of(await resources.create(DEPLOYMENT, "default", deployment()))
        assert created["apiVersion"] == "apps/v1"
        assert created["kind"] == "Deployment"
        metadata = created["metadata"]
        assert metadata["namespace"] == "default"
        assert metadata["uid"]
        assert metadata["generation"] == 1
        assert metadata["creationTimestamp"].endswith("Z")
        assert int(metadata["resourceVersion"]) == resources.store.revision
        assert created["spec"]["replicas"] == 1
        assert created["spec"]["template"]["spec"]["restartPolicy"] == "Always"

    run_with_resources(test)


def test_generated_names_use_kubernetes_alphabet() -> None:
    async def test(resources: Resources) -> None:
        created = document_of(await resources.create(CONFIG_MAP, "default", {"metadata": {"generateName": "web-"}}))
        suffix = created["metadata"]["name"].removeprefix("web-")
        assert len(suffix) == 5
        assert set(suffix) <= set("bcdfghjklmnpqrstvwxz2456789")

    run_with_resources(test)


def test_the_namespace_must_exist() -> None:
    async def test(resources: Resources) -> None:
        with pytest.raises(NotFound, match='namespaces "nope" not found'):
            await resources.create(CONFIG_MAP, "nope", config())

    run_with_resources(test)


def test_a_second_create_is_refused() -> None:
    async def test(resources: Resources) -> None:
        await resources.create(CONFIG_MAP, "default", config())
        with pytest.raises(AlreadyExists, match='configmaps "c" already exists'):
            await resources.create(CONFIG_MAP, "default", config())

    run_with_resources(test)


@pytest.mark.parametrize(
    ("kind", "name", "part"),
    [
        (CONFIG_MAP, "Upper", "lowercase RFC 1123 subdomain"),
        (CONFIG_MAP, "a" * 254, "no more than 253"),
        (NAMESPACE, "a.b", "lowercase RFC 1123 label"),
        (CONFIG_MAP, "", "name or generateName is required"),
    ],
)
def test_bad_names_are_refused(kind: Kind[Any], name: str, part: str) -> None:
    async def test(resources: Resources) -> None:
        with pytest.raises(Invalid, match=part):
            await resources.create(kind, "default", {"metadata": {"name": name}})

    run_with_resources(test)


def test_what_does_not_belong_to_the_url_is_refused() -> None:
    async def test(resources: Resources) -> None:
        with pytest.raises(BadRequest, match="does not match the expected API version"):
            await resources.create(CONFIG_MAP, "default", {"apiVersion": "v2", **config()})
        with pytest.raises(BadRequest, match="cannot be handled as a ConfigMap"):
            await resources.create(CONFIG_MAP, "default", {"kind": "Secret", **config()})
        with pytest.raises(BadRequest, match="namespace of the provided object"):
            await resources.create(CONFIG_MAP, "default", config(namespace="other"))
        with pytest.raises(BadRequest, match="should not be set"):
            await resources.create(CONFIG_MAP, "default", config(resourceVersion="5"))

    run_with_resources(test)


def test_nulls_mean_absent() -> None:
    async def test(resources: Resources) -> None:
        sent = {**deployment(), "status": None}
        sent["metadata"]["creationTimestamp"] = None
        sent["spec"]["template"]["spec"]["containers"][0]["resources"] = None
        sent["spec"]["strategy"] = None
        created = document_of(await resources.create(DEPLOYMENT, "default", sent))
        assert created["metadata"]["creationTimestamp"]
        assert created["spec"]["strategy"]["type"] == "RollingUpdate"

    run_with_resources(test)


def test_status_belongs_to_its_subresource() -> None:
    async def test(resources: Resources) -> None:
        created = document_of(await resources.create(NODE, "", {"metadata": {"name": "n"}, "status": {"phase": "x"}}))
        assert "status" not in created
        status = {"capacity": {"cpu": "2"}}
        main = document_of(await resources.update(NODE, "", "n", setting(status=status, spec={"unschedulable": True})))
        assert "status" not in main
        assert main["spec"] == {"unschedulable": True}
        assert main["metadata"]["generation"] == 2
        change = setting(status=status, spec={"unschedulable": False})
        by_status = document_of(await resources.update(NODE, "", "n", change, subresource="status"))
        assert by_status["status"] == status
        assert by_status["spec"] == {"unschedulable": True}
        assert by_status["metadata"]["generation"] == 2

    run_with_resources(test)


def test_an_update_that_changes_nothing_writes_nothing() -> None:
    async def test(resources: Resources) -> None:
        await resources.create(DEPLOYMENT, "default", deployment())
        before = resources.store.revision
        sent = deployment()
        await resources.update(DEPLOYMENT, "default", "d", lambda old: {**sent, "metadata": old["metadata"]})
        assert resources.store.revision == before

    run_with_resources(test)


def test_an_old_version_conflicts() -> None:
    async def test(resources: Resources) -> None:
        old = document_of(await resources.create(CONFIG_MAP, "default", config()))
        await resources.update(CONFIG_MAP, "default", "c", setting(data={"a": "c"}))
        with pytest.raises(Conflict, match="the object has been modified; please apply your changes"):
            await resources.update(CONFIG_MAP, "default", "c", lambda _: {**old, "data": {"a": "d"}})

    run_with_resources(test)


def test_concurrent_changes_are_all_made() -> None:
    async def test(resources: Resources) -> None:
        await resources.create(CONFIG_MAP, "default", config())

        def add(number: int) -> Any:
            return lambda old: {**old, "data": {**old["data"], f"k{number}": "v"}}

        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(resources.update(CONFIG_MAP, "default", "c", add(number)))
        assert len(document_of(resources.get(CONFIG_MAP, "default", "c"))["data"]) == 51

    run_with_resources(test)


def test_server_owned_metadata_stays() -> None:
    async def test(resources: Resources) -> None:
        created = document_of(await resources.create(CONFIG_MAP, "default", config()))

        def change(old: Document) -> Document:
            about = {"name": "c", "labels": {"x": "y"}, "creationTimestamp": "2000-01-01T00:00:00Z", "generation": 77}
            return {**old, "metadata": about}

        changed = document_of(await resources.update(CONFIG_MAP, "default", "c", change))
        for field in ("uid", "creationTimestamp", "namespace"):
            assert changed["metadata"][field] == created["metadata"][field]
        assert "generation" not in changed["metadata"]
        assert changed["metadata"]["labels"] == {"x": "y"}

    run_with_resources(test)


def test_dry_run_changes_nothing() -> None:
    async def test(resources: Resources) -> None:
        dry = WriteOptions(dry_run=True)
        created = await resources.create(CONFIG_MAP, "default", config(), dry)
        assert document_of(created)["metadata"]["uid"]
        with pytest.raises(NotFound):
            resources.get(CONFIG_MAP, "default", "c")
        await resources.create(CONFIG_MAP, "default", config())
        before = resources.store.revision
        with pytest.raises(AlreadyExists):
            await resources.create(CONFIG_MAP, "default", config(), dry)
        changed = await resources.update(CONFIG_MAP, "default", "c", setting(data={}), dry)
        assert document_of(changed)["data"] == {}
        assert (await resources.delete(CONFIG_MAP, "default", "c", options=dry)).removed
        assert resources.store.revision == before

    run_with_resources(test)


# Deletion


def test_finalizers_hold_an_object_until_they_are_gone() -> None:
    async def test(resources: Resources) -> None:
        await resources.create(CONFIG_MAP, "default", config(finalizers=["example.com/wait"]))
        deleted = await resources.delete(CONFIG_MAP, "default", "c")
        assert not deleted.removed
        held = document_of(resources.get(CONFIG_MAP, "default", "c"))
        assert held["metadata"]["deletionTimestamp"]
        with pytest.raises(Invalid, match="no new finalizers can be added"):
            finalizers = ["example.com/wait", "example.com/more"]
            await resources.update(
                CONFIG_MAP,
                "default",
                "c",
                lambda old: {**old, "metadata": {**old["metadata"], "finalizers": finalizers}},
            )
        await resources.update(
            CONFIG_MAP, "default", "c", lambda old: {**old, "metadata": {**old["metadata"], "finalizers": []}}
        )
        with pytest.raises(NotFound):
            resources.get(CONFIG_MAP, "default", "c")

    run_with_resources(test)


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
def test_propagation_policies_leave_a_finalizer_for_the_collector(policy: Any, finalizer: str) -> None:
    async def test(resources: Resources) -> None:
        await resources.create(DEPLOYMENT, "default", deployment())
        deleted = await resources.delete(DEPLOYMENT, "default", "d", DeleteOptions(propagation_policy=policy))
        assert not deleted.removed
        assert document_of(deleted)["metadata"]["finalizers"] == [finalizer]

    run_with_resources(test)


def test_a_pod_on_a_node_is_deleted_gracefully() -> None:
    async def test(resources: Resources) -> None:
        await resources.create(POD, "default", pod(nodeName="n", terminationGracePeriodSeconds=12))
        deleted = await resources.delete(POD, "default", "p")
        metadata = document_of(deleted)["metadata"]
        assert not deleted.removed
        assert metadata["deletionGracePeriodSeconds"] == 12
        before = resources.store.revision
        await resources.delete(POD, "default", "p")
        assert resources.store.revision == before, "a second deletion with the same grace period changes nothing"
        shorter = await resources.delete(POD, "default", "p", DeleteOptions(grace_period_seconds=3))
        assert document_of(shorter)["metadata"]["deletionGracePeriodSeconds"] == 3
        assert (await resources.delete(POD, "default", "p", DeleteOptions(grace_period_seconds=0))).removed

    run_with_resources(test)


def test_a_pod_without_a_node_goes_at_once() -> None:
    async def test(resources: Resources) -> None:
        await resources.create(POD, "default", pod())
        assert (await resources.delete(POD, "default", "p")).removed

    run_with_resources(test)


def test_preconditions_name_the_object_that_is_meant() -> None:
    async def test(resources: Resources) -> None:
        created = document_of(await resources.create(CONFIG_MAP, "default", config()))
        with pytest.raises(Conflict, match="the UID in the precondition"):
            await resources.delete(CONFIG_MAP, "default", "c", DeleteOptions(preconditions=Preconditions(uid="other")))
        right = DeleteOptions(preconditions=Preconditions(uid=created["metadata"]["uid"]))
        assert (await resources.delete(CONFIG_MAP, "default", "c", right)).removed

    run_with_resources(test)


def test_a_namespace_terminates_until_it_is_finalized() -> None:
    async def test(resources: Resources) -> None:
        await resources.create(NAMESPACE, "", {"metadata": {"name": "team"}})
        deleted = await resources.delete(NAMESPACE, "", "team")
        assert document_of(deleted)["status"]["phase"] == "Terminating"
        with pytest.raises(Forbidden, match="because it is being terminated"):
            await resources.create(CONFIG_MAP, "team", config())
        await resources.update(NAMESPACE, "", "team", lambda old: {**old, "spec": {}})
        assert document_of(resources.get(NAMESPACE, "", "team"))["spec"]["finalizers"] == ["kubernetes"]
        await resources.update(NAMESPACE, "", "team", lambda old: {**old, "spec": {}}, subresource="finalize")
        with pytest.raises(NotFound):
            resources.get(NAMESPACE, "", "team")

    run_with_resources(test)


# Fields


def test_strict_kinds_refuse_unknown_fields_and_suggest_the_right_one() -> None:
    async def test(resources: Resources) -> None:
        sent = {"metadata": {"name": "s"}, "spec": {"hosts": ["a.b"], "ports": [{"number": 80, "protcol": "HTTP"}]}}
        with pytest.raises(Invalid, match=r'spec\.ports\[0\]\.protcol: unknown field, did you mean "protocol"'):
            await resources.create(SERVICE_ENTRY, "default", sent)

    run_with_resources(test)


def test_field_validation_does_what_the_client_asks() -> None:
    async def test(resources: Resources) -> None:
        sent = {**config(), "foo": 1}
        with pytest.raises(BadRequest, match='strict decoding error: unknown field "foo"'):
            await resources.create(CONFIG_MAP, "default", sent, WriteOptions(field_validation="Strict"))
        written = await resources.create(CONFIG_MAP, "default", sent, WriteOptions(field_validation="Warn"))
        assert written.warnings == ('unknown field "foo"',)
        assert document_of(written)["foo"] == 1
        again = await resources.update(
            CONFIG_MAP, "default", "c", setting(data={}), WriteOptions(field_validation="Strict")
        )
        assert again.warnings == (), "what was unknown before is no news"

    run_with_resources(test)


def test_wrong_types_name_the_field() -> None:
    async def test(resources: Resources) -> None:
        sent = deployment()
        sent["spec"]["replicas"] = "three"
        with pytest.raises(Invalid, match=r"spec\.replicas: Invalid value: expected a whole number, got a string"):
            await resources.create(DEPLOYMENT, "default", sent)

    run_with_resources(test)


def test_fields_without_effect_are_named_in_warnings_and_a_condition() -> None:
    unhonoured, neither = frozenset({"spec.ports[].targetPort"}), {"spec.location": "a reason"}
    kind = replace(SERVICE_ENTRY, not_honoured=unhonoured, istio_neither=neither)

    async def test(resources: Resources) -> None:
        port = {"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}
        spec = {"hosts": ["a.example.com"], "ports": [port], "resolution": "NONE", "location": "MESH_EXTERNAL"}
        written = await resources.create(kind, "default", {"metadata": {"name": "s"}, "spec": spec})
        assert any("spec.ports[].targetPort" in warning and warning.endswith(" yet") for warning in written.warnings)
        assert any("spec.location" in warning and warning.endswith(": a reason") for warning in written.warnings)
        (condition,) = document_of(written)["status"]["conditions"]
        assert (condition["type"], condition["status"]) == (HONOURED, "False")
        kept = await resources.update(kind, "default", "s", setting(status={}), subresource="status")
        assert document_of(kept)["status"]["conditions"][0]["type"] == HONOURED
        plain = {**spec, "location": None, "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}
        cleared = await resources.update(kind, "default", "s", setting(spec=plain))
        assert cleared.warnings == ()
        assert not document_of(cleared)["status"].get("conditions")

    run_with_resources(test, scheme=Scheme((NAMESPACE, kind)))


def test_admission_may_change_and_refuse_and_is_told_when_the_write_has_ended() -> None:
    settled: list[str] = []

    def admission(request: AdmissionRequest) -> Document:
        if request.kind is not CONFIG_MAP:
            return request.document
        request.on_settled(lambda: settled.append(request.name))
        if request.name == "refused":
            raise Forbidden("not this one")
        namespace = request.get(NAMESPACE, "", request.namespace)
        assert namespace is not None
        return {**request.document, "data": {"operation": request.operation}}

    async def test(resources: Resources) -> None:
        created = await resources.create(CONFIG_MAP, "default", config())
        assert document_of(created)["data"] == {"operation": "CREATE"}
        with pytest.raises(Forbidden):
            await resources.create(CONFIG_MAP, "default", config("refused"))
        updated = await resources.update(CONFIG_MAP, "default", "c", lambda old: old)
        assert document_of(updated)["data"] == {"operation": "UPDATE"}
        assert settled == ["c", "refused", "c"]

    run_with_resources(test, admissions=[admission])
