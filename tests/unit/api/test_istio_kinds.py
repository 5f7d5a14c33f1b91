"""Istio's kinds as data: `istio/*.yaml` hold an example of each that sets every field of every message."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pilotfish.api.decode import decode, encode, fields_of, present_paths, unknown_fields
from pilotfish.api.errors import Invalid
from pilotfish.api.kinds import SCHEME
from pilotfish.api.meta import Document, Struct
from pilotfish.api.scheme import AnyKind

EXAMPLES = sorted((Path(__file__).parent / "istio").glob("*.yaml"))
NOT_IN_ANY_EXAMPLE = {("Port", "targetPort"), ("SidecarPort", "targetPort"), ("PolicyTargetReference", "namespace")} | {
    ("Delay", "exponentialDelay"),
    ("Abort", "http2Error"),
}
"""Fields that Istio's API has and its validation refuses."""


def documents(file: Path) -> list[Document]:
    found = list(yaml.safe_load_all(file.read_text()))
    for document in found:
        document["metadata"]["namespace"] = "shop"
    return found


def kind_of(document: Document) -> AnyKind:
    kind = SCHEME.by_kind(document["apiVersion"], document["kind"])
    assert kind is not None
    return kind


def fields_in(cls: type[Struct], value: Any) -> Iterator[tuple[str, str]]:
    """The fields that a document sets, each with the name of its type."""
    for name, inner in value.items():
        yield cls.__name__, name
        shape, nested = fields_of(cls)[name]
        if nested is not None:
            items = [inner] if shape == "one" else inner if shape == "list" else inner.values()
            for item in items:
                yield from fields_in(nested, item)


def fields_below(cls: type[Struct]) -> Iterator[tuple[str, str]]:
    """All fields of a type and of what it holds."""
    for name, (_, nested) in fields_of(cls).items():
        yield cls.__name__, name
        if nested is not None:
            yield from fields_below(nested)


def spec_type(kind: AnyKind) -> type[Struct]:
    found = typing.get_type_hints(kind.type)["spec"]
    assert issubclass(found, Struct)
    return found


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_valid_and_keeps_every_field(file: Path) -> None:
    for document in documents(file):
        kind = kind_of(document)
        assert list(unknown_fields(kind.type, document)) == []
        typed = decode(kind, document)
        assert [str(fault) for fault in kind.validate(typed)] == []
        assert decode(kind, encode(typed)) == typed


def there_is(cls: type[Struct], path: str) -> bool:
    """Whether a type has a field, e.g. "spec.http[].fault", or one that can have a value, "spec.tls.mode=MUTUAL"."""
    name, _, rest = path.partition("=")[0].partition(".")
    found = fields_of(cls).get(name.removesuffix("[]"))
    if found is None:
        return False
    return not rest or (found[1] is not None and there_is(found[1], rest))


def test_what_is_not_honoured_are_fields_that_there_are() -> None:
    paths = [(kind, path) for kind in SCHEME for path in kind.without_effect]
    assert [(kind.kind, path) for kind, path in paths if not there_is(kind.type, path)] == []


def test_what_is_not_honoured_is_told_of_examples() -> None:
    for document in (document for file in EXAMPLES for document in documents(file)):
        kind = kind_of(document)
        assert set(present_paths(document, kind.without_effect)) <= kind.without_effect


def test_the_examples_set_every_field_of_every_message() -> None:
    given: set[tuple[str, str]] = set()
    known: set[tuple[str, str]] = set()
    for document in (document for file in EXAMPLES for document in documents(file)):
        cls = spec_type(kind_of(document))
        given |= set(fields_in(cls, document["spec"]))
        known |= set(fields_below(cls))
    assert known - given == NOT_IN_ANY_EXAMPLE


def test_there_is_an_example_of_each_kind() -> None:
    groups = ("networking.istio.io", "telemetry.istio.io")
    kinds = {kind.kind for kind in SCHEME if kind.group in groups} - {"ServiceEntry"}
    assert {document["kind"] for file in EXAMPLES for document in documents(file)} == kinds


@pytest.mark.parametrize(
    ("word", "resource", "versions"),
    [
        ("vs", "virtualservices.networking.istio.io", "v1 v1beta1 v1alpha3"),
        ("dr", "destinationrules.networking.istio.io", "v1 v1beta1 v1alpha3"),
        ("gw", "gateways.networking.istio.io", "v1 v1beta1 v1alpha3"),
        ("sidecar", "sidecars.networking.istio.io", "v1 v1beta1 v1alpha3"),
        ("we", "workloadentries.networking.istio.io", "v1 v1beta1 v1alpha3"),
        ("wg", "workloadgroups.networking.istio.io", "v1 v1beta1 v1alpha3"),
        ("envoyfilter", "envoyfilters.networking.istio.io", "v1alpha3"),
        ("proxyconfig", "proxyconfigs.networking.istio.io", "v1beta1"),
        ("telemetry", "telemetries.telemetry.istio.io", "v1 v1alpha1"),
    ],
)
def test_names_and_versions_are_those_of_istios_definitions(word: str, resource: str, versions: str) -> None:
    kind = SCHEME.search(word)
    assert kind is not None
    assert (kind.resource, " ".join(kind.versions)) == (resource, versions)
    assert "istio-io" in kind.categories


def refused(kind: str, spec: Document, version: str = "networking.istio.io/v1") -> dict[str, str]:
    found = SCHEME.by_kind(version, kind)
    assert found is not None
    with pytest.raises(Invalid) as caught:
        decode(found, {"metadata": {"name": "x"}, "spec": spec})
    return {cause["field"]: cause["message"] for cause in caught.value.details["causes"]}


def test_every_value_of_a_wrong_type_is_told_where_it_stands() -> None:
    route = {"destination": {"host": 1}, "weight": "much"}
    assert set(refused("VirtualService", {"hosts": ["a.com", 2], "http": [{}, {"route": [route], "timeout": 5}]})) == {
        "spec.hosts[1]",
        "spec.http[1].route[0].destination.host",
        "spec.http[1].route[0].weight",
        "spec.http[1].timeout",
    }


def test_an_enums_value_is_refused_with_the_allowed_ones_and_a_suggestion() -> None:
    policy = {"loadBalancer": {"simple": "ROUND_ROBBIN"}, "tls": {"mode": "mutual"}}
    faults = refused("DestinationRule", {"host": "a", "trafficPolicy": policy})
    simple = faults["spec.trafficPolicy.loadBalancer.simple"]
    assert '"LEAST_REQUEST"' in simple
    assert simple.endswith('did you mean "ROUND_ROBIN"?')
    assert faults["spec.trafficPolicy.tls.mode"].endswith('did you mean "MUTUAL"?')


@pytest.mark.parametrize("text", ["1x", "10", "1.5.2s", "", "s", "1h 30m"])
def test_a_text_that_is_no_duration_is_refused_with_an_example(text: str) -> None:
    (message,) = refused("VirtualService", {"http": [{"timeout": text}]}).values()
    assert '"250ms"' in message


def test_numbers_out_of_their_types_range_are_refused() -> None:
    faults = refused("VirtualService", {"http": [{"match": [{"port": -1}], "redirect": {"redirectCode": 2**32}}]})
    assert set(faults) == {"spec.http[0].match[0].port", "spec.http[0].redirect.redirectCode"}
    assert "from 0 to 4294967295" in faults["spec.http[0].match[0].port"]


def test_required_fields_are_asked_for() -> None:
    assert refused("Gateway", {"servers": [{"port": {"number": 1}}]}) == {
        "spec.servers[0].port.protocol": "Required value",
        "spec.servers[0].port.name": "Required value",
        "spec.servers[0].hosts": "Required value",
    }


def test_of_a_oneof_at_most_one_is_taken_however_deep() -> None:
    kind = SCHEME.by_kind("networking.istio.io/v1", "DestinationRule")
    assert kind is not None
    balancer = {"simple": "RANDOM", "consistentHash": {"useSourceIp": True, "httpHeaderName": "x"}}
    subset = {"name": "v1", "trafficPolicy": {"loadBalancer": balancer}}
    typed = decode(kind, {"metadata": {"name": "x"}, "spec": {"host": "a", "subsets": [subset]}})
    faults = {fault.path: fault.message for fault in kind.validate(typed)}
    where = "spec.subsets[0].trafficPolicy.loadBalancer.consistentHash"
    assert set(faults) == {where, f"{where}.useSourceIp"}
    assert "only one of simple, consistentHash" in faults[where]


def test_an_unknown_field_is_told_with_the_nearest_name() -> None:
    kind = SCHEME.by_kind("networking.istio.io/v1", "Sidecar")
    assert kind is not None
    (fault,) = unknown_fields(kind.type, {"spec": {"egress": [{"host": ["./*"]}]}})
    assert str(fault) == 'spec.egress[0].host: unknown field, did you mean "hosts"?'


def test_what_protobuf_leaves_open_is_kept_as_it_is() -> None:
    kind = SCHEME.by_kind("networking.istio.io/v1alpha3", "EnvoyFilter")
    assert kind is not None
    patch = {"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"a": [None, {"b": 1.5}]}}}
    typed = decode(kind, {"spec": {"configPatches": [patch]}})
    assert msgspec.to_builtins(typed.spec.config_patches[0].patch.value) == patch["patch"]["value"]
