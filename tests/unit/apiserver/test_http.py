from __future__ import annotations

import json
import ssl
import threading
import time
from typing import Any

import httpx
import pytest

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}


def test_only_health_and_version_are_open(api: Any) -> None:
    with httpx.Client(base_url=api.url, verify=api.tls(anonymous=True)) as anonymous:
        assert anonymous.get("/healthz").text == "ok"
        assert anonymous.get("/version").json()["major"] == "1"
        refused = anonymous.get(CONFIG_MAPS)
        assert (refused.status_code, refused.json()["reason"]) == (401, "Unauthorized")


def test_a_certificate_of_another_authority_is_refused(api: Any, foreign_certificates: Any) -> None:
    context = ssl.create_default_context(cafile=str(api.certificates.ca))
    context.load_cert_chain(foreign_certificates.client.certificate, foreign_certificates.client.key)
    with httpx.Client(base_url=api.url, verify=context) as client, pytest.raises(httpx.TransportError):
        client.get(CONFIG_MAPS)


def test_the_life_of_an_object(api: Any) -> None:
    with api.client() as http:
        created = http.post(CONFIG_MAPS, json=named("life", data={"a": "b"}))
        assert created.status_code == 201
        got = http.get(f"{CONFIG_MAPS}/life").json()
        assert got == created.json()
        got["data"] = {"a": "c"}
        replaced = http.put(f"{CONFIG_MAPS}/life", json=got)
        assert (replaced.status_code, replaced.json()["data"]) == (200, {"a": "c"})
        stale = http.put(f"{CONFIG_MAPS}/life", json={**got, "data": {}})
        assert (stale.status_code, stale.json()["reason"]) == (409, "Conflict")
        deleted = http.delete(f"{CONFIG_MAPS}/life").json()
        assert (deleted["kind"], deleted["status"]) == ("Status", "Success")
        assert deleted["details"]["uid"] == got["metadata"]["uid"]
        gone = http.get(f"{CONFIG_MAPS}/life")
        assert (gone.status_code, gone.json()["message"]) == (404, 'configmaps "life" not found')


def test_yaml_is_read(api: Any) -> None:
    with api.client() as http:
        body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-yaml}\ndata: {day: 2020-01-01}\n"
        created = http.post(CONFIG_MAPS, content=body, headers={"content-type": "application/yaml"})
        assert (created.status_code, created.json()["data"]) == (201, {"day": "2020-01-01"})


@pytest.mark.parametrize(
    ("method", "path", "arguments", "code"),
    [
        ("POST", CONFIG_MAPS, {"content": b"{"}, 400),
        ("POST", CONFIG_MAPS, {"content": b"[]"}, 400),
        ("POST", CONFIG_MAPS, {"content": b"x", "headers": {"content-type": "text/plain"}}, 415),
        ("GET", CONFIG_MAPS, {"headers": {"accept": "application/vnd.kubernetes.protobuf"}}, 406),
        ("GET", "/api/v1/nonsense", {}, 404),
        ("GET", "/apis/nonsense/v1", {}, 404),
        ("GET", "/nonsense", {}, 404),
        ("POST", f"{CONFIG_MAPS}/x", {"json": {}}, 405),
        ("GET", f"{CONFIG_MAPS}?labelSelector=%21%21", {}, 400),
        ("GET", f"{CONFIG_MAPS}?limit=many", {}, 400),
        ("GET", f"{CONFIG_MAPS}?continue=here", {}, 400),
        ("POST", f"{CONFIG_MAPS}?dryRun=Some", {"json": named("x")}, 400),
        ("PATCH", f"{CONFIG_MAPS}/x", {"json": {}}, 415),
        ("DELETE", f"{CONFIG_MAPS}/x?propagationPolicy=Slowly", {}, 400),
    ],
)
def test_every_failure_is_a_status(api: Any, method: str, path: str, arguments: Any, code: int) -> None:
    with api.client() as http:
        answer = http.request(method, path, **arguments)
        document = answer.json()
        assert (answer.status_code, document["kind"], document["code"]) == (code, "Status", code)
        assert document["message"]


def test_field_validation_over_http(api: Any) -> None:
    with api.client() as http:
        strict = http.post(f"{CONFIG_MAPS}?fieldValidation=Strict", json=named("f", fooo=1))
        assert strict.status_code == 400
        assert 'strict decoding error: unknown field "fooo"' in strict.json()["message"]
        twice = '{"metadata":{"name":"f"},"data":{"a":"1","a":"2"}}'
        repeated = http.post(f"{CONFIG_MAPS}?fieldValidation=Strict", content=twice)
        assert 'duplicate field "a"' in repeated.json()["message"]
        warned = http.post(CONFIG_MAPS, json=named("f", fooo=1))
        assert warned.headers["warning"] == '299 - "unknown field \\"fooo\\""'


def test_a_table_has_the_columns_of_its_kind(api: Any) -> None:
    with api.client() as http:
        http.post(CONFIG_MAPS, json=named("tabled", data={"a": "b", "c": "d"}))
        query = {"fieldSelector": "metadata.name=tabled"}
        table = http.get(CONFIG_MAPS, params=query, headers={"accept": f"{TABLE},application/json"}).json()
        assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
        (row,) = table["rows"]
        assert row["cells"][:2] == ["tabled", "2"]
        assert row["object"]["kind"] == "PartialObjectMetadata"
        full = http.get(CONFIG_MAPS, params={**query, "includeObject": "Object"}, headers={"accept": TABLE}).json()
        assert full["rows"][0]["object"]["data"] == {"a": "b", "c": "d"}
        partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
        items = http.get(CONFIG_MAPS, params=query, headers={"accept": partial}).json()
        assert items["kind"] == "PartialObjectMetadataList"
        assert "data" not in items["items"][0]


def test_lists_come_in_pages(api: Any) -> None:
    with api.client() as http:
        for number in range(5):
            http.post(CONFIG_MAPS, json={"metadata": {"name": f"page-{number}", "labels": {"paged": "yes"}}})
        names: list[str] = []
        versions: set[str] = set()
        token = ""
        while True:
            page = http.get(CONFIG_MAPS, params={"labelSelector": "paged=yes", "limit": 2, "continue": token}).json()
            names += [item["metadata"]["name"] for item in page["items"]]
            versions.add(page["metadata"]["resourceVersion"])
            http.post(CONFIG_MAPS, json={"metadata": {"name": f"meanwhile-{len(names)}"}})
            token = page["metadata"].get("continue", "")
            if not token:
                break
        assert names == [f"page-{number}" for number in range(5)]
        assert len(versions) == 1


def test_all_versions_of_a_kind_show_the_same_object(api: Any) -> None:
    with api.client() as http:
        sent = {
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "ServiceEntry",
            "metadata": {"name": "versions"},
            "spec": {
                "hosts": ["a.example.com"],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "location": "MESH_EXTERNAL",
                "resolution": "DNS",
            },
        }
        path = "/apis/networking.istio.io/{}/namespaces/default/serviceentries"
        created = http.post(path.format("v1alpha3"), json=sent)
        assert created.json()["apiVersion"] == "networking.istio.io/v1alpha3"
        for version in ("v1", "v1beta1"):
            got = http.get(path.format(version) + "/versions").json()
            assert got["apiVersion"] == f"networking.istio.io/{version}"
            assert got["spec"] == created.json()["spec"]
        in_list = http.get(path.format("v1beta1")).json()
        assert {item["apiVersion"] for item in in_list["items"]} == {"networking.istio.io/v1beta1"}


def test_scale(api: Any) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"app": "s"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    with api.client() as http:
        spec = {"selector": {"matchLabels": {"app": "s"}}, "template": template}
        http.post(path, json={"metadata": {"name": "scaled"}, "spec": spec}).raise_for_status()
        scale = http.get(f"{path}/scaled/scale").json()
        assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 1}, "app=s")
        merge = {"content-type": "application/merge-patch+json"}
        patched = http.patch(f"{path}/scaled/scale", content=b'{"spec":{"replicas":4}}', headers=merge)
        assert patched.json()["spec"]["replicas"] == 4
        scale = {**patched.json(), "spec": {"replicas": 2}}
        assert http.put(f"{path}/scaled/scale", json=scale).json()["spec"]["replicas"] == 2
        assert http.get(f"{path}/scaled").json()["spec"]["replicas"] == 2
        assert (
            http.put(f"{path}/scaled/scale", json={**scale, "metadata": {}, "spec": {"replicas": -1}}).status_code
            == 422
        )


def test_a_watch_tells_changes_and_bookmarks_the_initial_state(api: Any) -> None:
    with api.client() as http:
        http.post(CONFIG_MAPS, json={"metadata": {"name": "w0", "labels": {"watched": "yes"}}})
        query = {
            "watch": "true",
            "labelSelector": "watched=yes",
            "sendInitialEvents": "true",
            "allowWatchBookmarks": "true",
            "resourceVersionMatch": "NotOlderThan",
            "timeoutSeconds": "20",
        }
        with http.stream("GET", CONFIG_MAPS, params=query) as stream:
            lines = stream.iter_lines()
            first, second = json.loads(next(lines)), json.loads(next(lines))
            assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "w0")
            assert second["type"] == "BOOKMARK"
            assert second["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
            with api.client() as other:
                other.delete(f"{CONFIG_MAPS}/w0")
            third = json.loads(next(lines))
            assert (third["type"], third["object"]["metadata"]["name"]) == ("DELETED", "w0")


def test_a_watch_ends_at_its_timeout_and_tells_of_lost_history(api: Any) -> None:
    with api.client() as http:
        ended = http.get(CONFIG_MAPS, params={"watch": "1", "timeoutSeconds": "1", "labelSelector": "none=such"})
        assert (ended.status_code, ended.text) == (200, "")
        lost = http.get(CONFIG_MAPS, params={"watch": "1", "resourceVersion": "999999"})
        event = json.loads(lost.text)
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_a_collection_is_deleted_by_selector(api: Any) -> None:
    with api.client() as http:
        for number in range(3):
            http.post(CONFIG_MAPS, json={"metadata": {"name": f"many-{number}", "labels": {"many": str(number > 0)}}})
        deleted = http.delete(CONFIG_MAPS, params={"labelSelector": "many=True"}).json()
        assert len(deleted["items"]) == 2
        assert http.get(f"{CONFIG_MAPS}/many-0").status_code == 200


def test_discovery_says_the_same_in_both_forms(api: Any) -> None:
    with api.client() as http:
        separate = {
            (entry["groupVersion"], resource["name"])
            for path in ("/api/v1", "/apis/apps/v1", "/apis/networking.istio.io/v1")
            for entry in [http.get(path).json()]
            for resource in entry["resources"]
        }
        found = set()
        for path in ("/api", "/apis"):
            for version in ("v2", "v2beta1"):
                form = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
                answer = http.get(path, headers={"accept": f"{form},application/json"})
                assert answer.headers["content-type"] == form
                for group in answer.json()["items"]:
                    for served in group["versions"]:
                        name = group["metadata"].get("name", "")
                        group_version = f"{name}/{served['version']}" if name else served["version"]
                        for resource in served["resources"]:
                            found.add((group_version, resource["resource"]))
                            for sub in resource.get("subresources", ()):
                                found.add((group_version, f"{resource['resource']}/{sub['subresource']}"))
        assert separate <= found
        assert ("apps/v1", "deployments/scale") in separate
        groups = {group["name"] for group in http.get("/apis").json()["groups"]}
        assert {"apps", "networking.istio.io", "authorization.k8s.io"} <= groups


def test_openapi_declares_field_validation_and_resolves(api: Any) -> None:
    with api.client() as http:
        index = http.get("/openapi/v3").json()["paths"]
        assert {"api/v1", "apis/apps/v1"} <= index.keys()
        document = http.get(index["apis/apps/v1"]["serverRelativeURL"]).json()
        patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
        assert "fieldValidation" in {parameter["name"] for parameter in patch["parameters"]}
        assert "application/strategic-merge-patch+json" not in patch["requestBody"]["content"]
        schemas = document["components"]["schemas"]
        references = set(find_references(document))
        assert references
        assert {reference.rpartition("/")[2] for reference in references} <= schemas.keys()


def test_openapi_tells_types_and_what_their_values_are(api: Any) -> None:
    """As `kubectl explain` shows them."""
    with api.client() as http:
        index = http.get("/openapi/v3").json()["paths"]
        schemas = http.get(index["apis/networking.istio.io/v1"]["serverRelativeURL"]).json()["components"]["schemas"]
    detection = next(s for name, s in schemas.items() if name.endswith(".OutlierDetection"))["properties"]
    assert detection["interval"]["type"] == "string" and "1h30m" in detection["interval"]["description"]
    assert detection["consecutive5xxErrors"]["type"] == "integer"
    assert detection["splitExternalLocalOriginErrors"] == {"type": "boolean"}
    assert detection["outlierDetectionHttpErrorCodes"]["items"]["type"] == "integer"


def find_references(value: Any) -> list[str]:
    if isinstance(value, dict):
        here = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return here + [reference for nested in value.values() for reference in find_references(nested)]
    return [reference for item in value for reference in find_references(item)] if isinstance(value, list) else []


def test_who_am_i(api: Any) -> None:
    with api.client() as http:
        answer = http.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json={})
        user = answer.json()["status"]["userInfo"]
        assert user == {"username": "admin", "groups": ["system:masters", "system:authenticated"]}


def test_open_watches_end_when_the_server_stops(stoppable_api: Any) -> None:
    server, stop = stoppable_api
    ended = threading.Event()
    began = threading.Event()

    def watch() -> None:
        with server.client() as http, http.stream("GET", CONFIG_MAPS, params={"watch": "1"}) as stream:
            began.set()
            for _ in stream.iter_lines():
                pass
        ended.set()

    thread = threading.Thread(target=watch)
    thread.start()
    assert began.wait(5)
    start = time.monotonic()
    stop()
    assert ended.wait(3)
    assert time.monotonic() - start < 3
    thread.join()
