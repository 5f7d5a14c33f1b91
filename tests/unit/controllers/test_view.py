from types import MappingProxyType

import msgspec

from pilotfish.api.meta import ObjectMeta
from pilotfish.api.pods import Pod
from pilotfish.client.informer import Change
from pilotfish.controllers.view import FORGET_SECONDS, View


class FakeInformer:
    """Objects that a test puts in by hand."""

    def __init__(self):
        self._objects = {}
        self._subscribers = []

    @property
    def objects(self):
        return MappingProxyType(self._objects)

    def subscribe(self, subscriber):
        self._subscribers.append(subscriber)

    def put(self, obj):
        self._tell(Change(self._objects.get(obj.key), obj))

    def remove(self, obj):
        self._tell(Change(obj, None))

    def _tell(self, change):
        if change.new is None:
            self._objects.pop(change.key, None)
        else:
            self._objects[change.key] = change.new
        for subscriber in self._subscribers:
            subscriber(change)


def a_pod(version, name="a", uid="1", deleted=None, **labels):
    about = ObjectMeta(
        name=name, namespace="n", uid=uid, resource_version=str(version), labels=labels, deletion_timestamp=deleted
    )
    return Pod(metadata=about)


def a_view(**options):
    informer = FakeInformer()
    return informer, View(informer, lambda pod: pod.metadata.labels.values(), **options)


def test_a_write_is_seen_before_the_watch_brings_it():
    informer, view = a_view()
    view.wrote(a_pod(5, group="x"))
    assert [p.name for p in view.group("x")] == ["a"]
    assert [p.name for p in view] == ["a"]
    informer.put(a_pod(5, group="x"))
    informer.put(a_pod(6, group="y"))
    assert not view.group("x")
    assert view.group("y") == [a_pod(6, group="y")]


def test_older_news_do_not_undo_a_write():
    informer, view = a_view()
    informer.put(a_pod(1, group="x"))
    view.wrote(a_pod(9, group="z"))
    informer.put(a_pod(4, group="x"))
    assert view.get(("n", "a")) == a_pod(9, group="z")
    assert not view.group("x")
    informer.put(a_pod(10, group="x"))
    assert view.get(("n", "a")) == a_pod(10, group="x")


def test_what_was_deleted_is_gone_until_the_watch_knows():
    informer, view = a_view()
    informer.put(a_pod(1, group="x"))
    view.deleted(a_pod(1, group="x"))
    informer.put(a_pod(2, group="x"))
    assert view.get(("n", "a")) is None
    assert not view.group("x")
    leaving = a_pod(3, deleted="2024-01-01T00:00:00Z", group="x")
    informer.put(leaving)
    assert view.get(("n", "a")) == leaving


def test_another_object_of_the_same_name_is_another():
    informer, view = a_view()
    informer.put(a_pod(1))
    view.deleted(a_pod(1))
    informer.remove(a_pod(1))
    informer.put(a_pod(3, uid="2"))
    assert view.get(("n", "a")) == a_pod(3, uid="2")


def test_a_write_that_never_comes_back_is_forgotten():
    now = [0.0]
    _, view = a_view(clock=lambda: now[0])
    view.wrote(a_pod(5))
    now[0] = FORGET_SECONDS + 1
    assert view.get(("n", "a")) is None
    assert list(view) == []


def test_groups_follow_the_objects():
    informer, view = a_view()
    informer.put(a_pod(1, group="x"))
    informer.put(a_pod(2, name="b", uid="2", group="x"))
    assert {p.name for p in view.group("x")} == {"a", "b"}
    informer.remove(msgspec.structs.replace(a_pod(1, group="x")))
    assert {p.name for p in view.group("x")} == {"b"}
