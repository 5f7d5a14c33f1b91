import asyncio
import logging

import pytest

from pilotfish.api.errors import ApiError, Conflict, Forbidden
from pilotfish.controllers.queue import WorkQueue


def run_queue(queue, reconcile, until, workers=2):
    async def scenario():
        done = asyncio.Event()
        task = asyncio.create_task(queue.run(lambda key: reconcile(key, done), workers))
        try:
            await until(done)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_key_that_is_queued_twice_is_worked_on_once():
    queue = WorkQueue("test")
    seen = []

    async def reconcile(key, done):
        seen.append(key)
        if key == "last":
            done.set()

    async def until(done):
        for key in ("a", "b", "a", "last"):
            queue.add(key)
        await done.wait()

    run_queue(queue, reconcile, until, workers=1)
    assert seen == ["a", "b", "last"]


def test_a_key_is_never_worked_on_twice_at_once_and_no_change_is_missed():
    queue = WorkQueue("test")
    running, runs = set(), []

    async def reconcile(key, done):
        assert key not in running
        running.add(key)
        runs.append(key)
        if len(runs) == 1:
            queue.add(key)
            queue.add(key)
        for _ in range(5):
            await asyncio.sleep(0)
        running.discard(key)
        if len(runs) == 2:
            done.set()

    async def until(done):
        queue.add("a")
        await done.wait()
        await asyncio.sleep(0.01)

    run_queue(queue, reconcile, until, workers=4)
    assert runs == ["a", "a"]


@pytest.mark.parametrize("error", [Conflict("x"), ApiError("x"), RuntimeError("x")])
def test_a_key_that_fails_is_tried_again_and_others_go_on(error, caplog):
    queue = WorkQueue("test")
    tries = []

    async def reconcile(key, done):
        tries.append(key)
        if key == "bad" and tries.count("bad") < 4:
            raise error
        if "good" in tries and tries.count("bad") == 4:
            done.set()

    async def until(done):
        queue.add("bad")
        queue.add("good")
        await done.wait()

    with caplog.at_level(logging.CRITICAL):
        run_queue(queue, reconcile, until)
    assert tries.count("good") == 1


def test_a_key_comes_back_when_its_reconciliation_asks_for_it():
    queue = WorkQueue("test")
    runs = []

    async def reconcile(key, done):
        runs.append(key)
        if len(runs) == 2:
            done.set()
            return None
        return 0.01

    async def until(done):
        queue.add("a")
        queue.add_after("a", 60)
        await done.wait()

    run_queue(queue, reconcile, until)
    assert runs == ["a", "a"]


def test_what_a_namespace_that_goes_away_refuses_is_not_tried_again_and_no_warning(caplog):
    queue = WorkQueue("test")
    runs = []

    async def reconcile(key, done):
        runs.append(key)
        if key == "last":
            done.set()
            return
        cause = {"reason": "NamespaceTerminating", "field": "metadata.namespace"}
        raise Forbidden("because it is being terminated", details={"causes": [cause]})

    async def until(done):
        queue.add("leaving")
        queue.add_after("last", 0.1)  # many times the first delay
        await done.wait()

    run_queue(queue, reconcile, until)
    assert runs == ["leaving", "last"]
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
