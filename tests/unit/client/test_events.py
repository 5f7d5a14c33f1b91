import asyncio

from pilotfish.api.kinds import EVENT, NAMESPACE, SCHEME
from pilotfish.api.meta import ObjectMeta
from pilotfish.api.pods import Pod
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.client.events import EventRecorder
from pilotfish.store.memory import MemoryStore

POD = Pod(metadata=ObjectMeta(name="web", namespace="default", uid="u"))


async def written(client, count):
    async with asyncio.timeout(5):
        while True:
            events = (await client.list(EVENT, None)).items
            if sum(e.count for e in events) == count:
                return events
            await asyncio.sleep(0.002)


def with_recorder(scenario):
    async def run():
        client = LocalClient(Resources(MemoryStore(), SCHEME))
        await client.create(NAMESPACE, {"metadata": {"name": "default"}})
        recorder = EventRecorder(client, "tester", "node-1")
        task = asyncio.create_task(recorder.run())
        try:
            await scenario(client, recorder)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_an_event_names_its_object_and_its_source():
    async def scenario(client, recorder):
        recorder.event(POD, "Warning", "BackOff", "no luck", field_path="spec.containers{web}")
        (event,) = await written(client, 1)
        about = event.involved_object
        assert (about.kind, about.api_version, about.namespace, about.name, about.uid) == (
            *("Pod", "v1"),
            *("default", "web", "u"),
        )
        assert about.field_path == "spec.containers{web}"
        assert (event.type, event.reason, event.message) == ("Warning", "BackOff", "no luck")
        assert (event.source.component, event.source.host) == ("tester", "node-1")
        assert event.name.startswith("web.")

    with_recorder(scenario)


def test_the_same_event_is_counted_and_another_is_not():
    async def scenario(client, recorder):
        for message in ("a", "a", "b", "a"):
            recorder.event(POD, "Normal", "Told", message)
        events = await written(client, 4)
        assert sorted((e.message, e.count) for e in events) == [("a", 3), ("b", 1)]

    with_recorder(scenario)


def test_a_counted_event_that_is_gone_is_written_anew_and_a_refused_one_is_lost():
    async def scenario(client, recorder):
        recorder.event(POD, "Normal", "Told", "a")
        (event,) = await written(client, 1)
        await client.delete(EVENT, event.name, "default")
        nowhere = Pod(metadata=ObjectMeta(name="x", namespace="nowhere"))
        recorder.event(nowhere, "Normal", "Told", "lost")
        recorder.event(POD, "Normal", "Told", "a")
        (event,) = await written(client, 1)
        assert event.message == "a"

    with_recorder(scenario)
