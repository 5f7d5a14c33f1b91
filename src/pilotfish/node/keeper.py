"""One container, kept as its pod wants it: started, watched, probed, started again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pilotfish.api.meta import timestamp
from pilotfish.api.pods import Container, ContainerStateTerminated, LifecycleHandler, Pod, Probe
from pilotfish.client.events import EventType
from pilotfish.node import images, logs, probes, proxy, runtime
from pilotfish.node.environment import ConfigError
from pilotfish.node.images import Image
from pilotfish.node.probes import Outcome, Target
from pilotfish.node.runtime import ContainerRecord, ContainerSpec, RuntimeFailure
from pilotfish.node.sandbox import PodFolder
from pilotfish.node.status import ContainerFacts, terminated

FIRST_DELAY, LONGEST_DELAY = 10.0, 300.0
"""Seconds before a container that ended is started again, doubling; the first restart is at once (Kubernetes)."""

FORGIVEN_AFTER = 600.0
"""A container that ran for so many seconds starts over with its delays."""

DEFAULT_GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL where a pod says nothing (Kubernetes: terminationGracePeriodSeconds)."""

CONFIG_RETRY = 1.0
IMAGE_POLL = 0.2
PROXY_WAIT = 60.0
"""Seconds that a pod's other containers wait for its proxy (Istio: `pilot-agent wait`)."""

OUTPUT_LIMIT = 10 * 1024
NEVER_RAN = 0
"""The pid in the record of a run whose program could not be executed."""


@dataclass(frozen=True)
class Surroundings:
    """What a keeper needs of its pod. `prepare` makes the next run's specification; it raises ConfigError."""

    pod: Callable[[], Pod]
    folder: PodFolder
    images: Path
    ip: str
    netns: Path | None
    prepare: Callable[[Container, Image | None, int], Awaitable[ContainerSpec]]
    event: Callable[[EventType, str, str, str], None]
    """(type, reason, message, container)."""
    changed: Callable[[], None]
    """The facts of some container are others now."""


class Keeper:
    """Keeps one container. `facts` is how it stands; `settled` is set once its first start was tried, hooks and all."""

    def __init__(
        self, container: Container, around: Surroundings, facts: ContainerFacts, *, init: bool = False
    ) -> None:
        self.container = container
        self.facts = facts
        self.settled = asyncio.Event()
        self.done = asyncio.Event()
        """Set when it has ended and will not be started again."""
        self._around = around
        self._init = init
        self._is_proxy = proxy.proxy_container(around.pod()) == container
        self._ended = asyncio.Event()
        self._dying = asyncio.Event()
        self._sidecar = not init or container.restart_policy == "Always"
        if facts.record is not None and not facts.record.running:
            self._ended.set()

    @property
    def is_proxy(self) -> bool:
        return self._is_proxy

    def observe(self, record: ContainerRecord) -> None:
        """Hear from the supervisor how the container stands."""
        known = self.facts.record
        if known is not None and known.id != record.id:
            return  # an older run
        ready = self.facts.ready and record.running
        self._set(record=record, waiting=None, ready=ready, started=self.facts.started and record.running)
        if not record.running:
            self._ended.set()

    async def ended(self) -> None:
        """Returns when the present run is over; at once when there is none."""
        if self.facts.running:
            await self._ended.wait()

    async def keep(self) -> None:
        """Run the container as the pod's restartPolicy says; returns when it has ended for good."""
        crashes = self.facts.restarts
        if self.facts.running:
            await self._attend()  # adopted: its hook ran when it was started
        while True:
            record = self.facts.record
            if record is not None and not record.running:
                if not self._restarts(record.exit_code or 0):
                    break
                if (record.finished_at or 0) - record.started_at > FORGIVEN_AFTER * 1e9:
                    crashes = 0
                if crashes > 0:
                    await self._back_off(min(FIRST_DELAY * 2 ** (crashes - 1), LONGEST_DELAY))
                crashes += 1
            await self._run_once()
        self._set(ready=self._init and (self.facts.record is not None and self.facts.record.exit_code == 0))
        self.settled.set()
        self.done.set()

    async def _run_once(self) -> None:
        """Start the container and stay with it until it has ended. A start that fails counts as a run that failed."""
        image = await self._image()
        previous = self.facts.record
        attempt = self.facts.restarts + 1 if previous is not None else self.facts.restarts
        spec = await self._specification(image, attempt)
        name = self.container.name
        self._around.event("Normal", "Created", f"Created container: {name}", name)
        self._ended.clear()
        self._dying.clear()
        last = self._last(previous) if previous is not None else self.facts.last
        # Before the start, so that the supervisor's word of it finds the run that it speaks of.
        self.facts = replace(self.facts, record=None, last=last, restarts=attempt)
        logs.discard_old(self._around.folder, name, attempt)
        try:
            record = await runtime.start(self._around.folder, spec)
        except runtime.PodGone:
            raise
        except RuntimeFailure as error:
            self._failed_start(spec, str(error))
            return
        if self.facts.record is None:
            self.observe(record)
        self._set(image_id=image.id if image else "")
        self._around.event("Normal", "Started", f"Started container {name}", name)
        await self._attend(hook=self.container.lifecycle.post_start if self.container.lifecycle else None)

    async def _attend(self, hook: LifecycleHandler | None = None) -> None:
        """Hook and probes of a running container, until it ends."""
        if hook is None and self._is_proxy and self._holds():
            hook = self.container.lifecycle.post_start if self.container.lifecycle else None
        async with asyncio.TaskGroup() as group:
            attending = group.create_task(self._hook_and_probes(hook))
            await self._ended.wait()
            attending.cancel()

    async def _hook_and_probes(self, hook: LifecycleHandler | None) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._probe())
            if hook is not None:
                outcome = await self._run_hook(hook)
                if not outcome.success:
                    self._around.event(
                        "Warning",
                        "FailedPostStartHook",
                        f"PostStartHook failed: {outcome.message}",
                        self.container.name,
                    )
                    await self._kill()
            self.settled.set()

    def _holds(self) -> bool:
        hook = self.container.lifecycle.post_start if self.container.lifecycle else None
        return hook is not None and hook.exec is not None and tuple(hook.exec.command[:2]) == ("pilot-agent", "wait")

    async def _run_hook(self, hook: LifecycleHandler) -> Outcome:
        if not (self._is_proxy and self._holds()):
            return await probes.attempt(self._target(), hook, None)
        # The node waits in pilot-agent's place: it need not start a program for it.
        ready = Probe(http_get=proxy.ready_action())
        deadline = asyncio.get_running_loop().time() + PROXY_WAIT
        delay = probes.FIRST_INTERVAL
        while not (outcome := await probes.attempt(self._target(), ready, 1.0)).success:
            if asyncio.get_running_loop().time() > deadline:
                return Outcome(False, f"the proxy is not ready after {PROXY_WAIT:g}s: {outcome.message}")
            await asyncio.sleep(delay)
            delay = min(delay * probes.GROWTH, probes.LAST_INTERVAL)
        return outcome

    async def _probe(self) -> None:
        spec = self.container
        started = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            if spec.startup_probe is not None and not self.facts.started:
                group.create_task(self._watch("Startup", spec.startup_probe, lambda ok: self._startup(ok, started)))
            else:
                self._startup(True, started)
            await started.wait()
            if spec.readiness_probe is not None:
                group.create_task(self._watch("Readiness", spec.readiness_probe, lambda ok: self._set(ready=ok)))
            else:
                self._set(ready=True)
            if spec.liveness_probe is not None:
                group.create_task(self._watch("Liveness", spec.liveness_probe, self._alive))
            await self._dying.wait()
            await self._kill()

    def _startup(self, ok: bool, started: asyncio.Event) -> None:
        if ok:
            self._set(started=True)
            started.set()
        else:
            started.set()
            self._alive(False, "startup")

    def _alive(self, ok: bool, kind: str = "liveness") -> None:
        if not ok:
            message = f"Container {self.container.name} failed {kind} probe, will be restarted"
            self._around.event("Normal", "Killing", message, self.container.name)
            self._dying.set()

    async def _watch(self, kind: str, probe: Probe, verdict: Callable[[bool], None]) -> None:
        def failed(message: str) -> None:
            self._around.event("Warning", "Unhealthy", f"{kind} probe failed: {message}", self.container.name)

        await probes.watch(
            probe,
            lambda timeout: probes.attempt(self._target(), probe, timeout),
            verdict,
            failed,
            eager=kind != "Liveness",
        )

    def _target(self) -> Target:
        return Target(self.container, self._around.ip, self._around.netns, self._command)

    async def _command(self, command: Sequence[str]) -> tuple[int, str]:
        output = bytearray()

        async def keep(data: bytes) -> None:
            output.extend(data[: OUTPUT_LIMIT - len(output)])

        try:
            code = await runtime.exec(self._around.folder, self.container.name, command, stdout=keep, stderr=keep)
        except RuntimeFailure as error:
            return 126, str(error)
        return code, output.decode(errors="replace")

    async def stop(self, grace_seconds: float, reason: str = "") -> None:
        """preStop, SIGTERM, and SIGKILL when the grace period is over. Returns when the container has ended."""
        if not self.facts.running:
            return
        message = f"Stopping container {self.container.name}" + (f": {reason}" if reason else "")
        self._around.event("Normal", "Killing", message, self.container.name)
        await self._kill(grace_seconds)

    async def _kill(self, grace_seconds: float | None = None) -> None:
        grace = self._around.pod().spec.termination_grace_period_seconds if grace_seconds is None else grace_seconds
        grace = DEFAULT_GRACE if grace is None else float(grace)
        begun = asyncio.get_running_loop().time()
        hook = self.container.lifecycle.pre_stop if self.container.lifecycle else None
        if hook is not None and grace > 0 and not self._is_proxy:
            outcome = await probes.attempt(self._target(), hook, grace)
            if not outcome.success:
                text = f"PreStopHook failed: {outcome.message}"
                self._around.event("Warning", "FailedPreStopHook", text, self.container.name)
        # Whatever the hook took, a container is asked before it is made to.
        left = max(2.0, grace - (asyncio.get_running_loop().time() - begun)) if grace > 0 else 0.0
        with contextlib.suppress(runtime.PodGone):
            await runtime.stop_container(self._around.folder, self.container.name, self._ended.wait(), left)

    def _restarts(self, exit_code: int) -> bool:
        if self._init and not self._sidecar:
            return exit_code != 0 and self._around.pod().spec.restart_policy != "Never"
        policy = "Always" if self._init else self._around.pod().spec.restart_policy or "Always"
        return policy == "Always" or (policy == "OnFailure" and exit_code != 0)

    async def _back_off(self, delay: float) -> None:
        pod = self._around.pod()
        what = f"restarting failed container={self.container.name} pod={pod.name}_{pod.namespace}({pod.metadata.uid})"
        self._around.event("Warning", "BackOff", f"Back-off {what}", self.container.name)
        record = self.facts.record
        assert record is not None
        self._set(waiting=("CrashLoopBackOff", f"back-off {_span(delay)} {what}"), last=self._last(record))
        await asyncio.sleep(delay)

    def _last(self, record: ContainerRecord) -> ContainerStateTerminated | None:
        return self.facts.last if record.pid == NEVER_RAN else terminated(record)

    def _failed_start(self, spec: ContainerSpec, message: str) -> None:
        """A program that could not be executed: told as container runtimes do, exit code 128, reason StartError."""
        self._around.event("Warning", "Failed", f"Error: {message}", self.container.name)
        now = timestamp()
        last = ContainerStateTerminated(
            exit_code=128, reason="StartError", message=message, started_at=now, finished_at=now
        )
        moment = time.time_ns()
        record = ContainerRecord(spec.name, spec.id, spec.attempt, NEVER_RAN, moment, moment, 128)
        self._ended.set()
        self._set(record=record, last=last, waiting=("RunContainerError", message))
        self.settled.set()

    async def _image(self) -> Image | None:
        """The image's entry, as soon as there is one; None for a container that needs none."""
        container = self.container
        if container.command or self._is_proxy:
            self._pulled(f'Container image "{container.image}" already present on machine')
            return None
        failed = False
        while True:
            try:
                found = images.get(self._around.images, container.image)
            except images.InvalidImageName as error:
                found = None
                await self._no_image("InvalidImageName", f"Failed to apply default image tag: {error}")
            if found is not None:
                self._pulled(f'Container image "{container.image}" already present on machine')
                return found
            if not failed:
                failed = True
                await self._not_pulled()
            await asyncio.sleep(IMAGE_POLL)

    async def _not_pulled(self) -> None:
        image = self.container.image
        hint = f"the image is not in the local store; run: pilotfish image add {image} -- COMMAND..."
        if self.container.image_pull_policy == "Never":
            text = f'Container image "{image}" is not present with pull policy of Never: {hint}'
            self._around.event("Warning", "ErrImageNeverPull", text, self.container.name)
            self._set(waiting=("ErrImageNeverPull", text))
            self.settled.set()
            return
        text = f'Failed to pull image "{image}": {hint}'
        self._around.event("Warning", "Failed", text, self.container.name)
        self._around.event("Warning", "Failed", "Error: ErrImagePull", self.container.name)
        self._set(waiting=("ErrImagePull", text))
        self.settled.set()
        await asyncio.sleep(CONFIG_RETRY)
        self._around.event("Normal", "BackOff", f'Back-off pulling image "{image}"', self.container.name)
        self._around.event("Warning", "Failed", "Error: ImagePullBackOff", self.container.name)
        self._set(waiting=("ImagePullBackOff", f'Back-off pulling image "{image}": {hint}'))

    async def _no_image(self, reason: str, message: str) -> None:
        """A name that no image can have: nothing will change but the pod."""
        self._around.event("Warning", reason, message, self.container.name)
        self._set(waiting=(reason, message))
        self.settled.set()
        await asyncio.Event().wait()

    def _pulled(self, message: str) -> None:
        self._around.event("Normal", "Pulled", message, self.container.name)

    async def _specification(self, image: Image | None, attempt: int) -> ContainerSpec:
        told = ""
        while True:
            try:
                return await self._around.prepare(self.container, image, attempt)
            except ConfigError as error:
                if str(error) != told:
                    told = str(error)
                    self._around.event("Warning", "Failed", f"Error: {error}", self.container.name)
                self._set(waiting=("CreateContainerConfigError", told))
                self.settled.set()
                await asyncio.sleep(CONFIG_RETRY)

    def _set(self, **changes: object) -> None:
        facts = replace(self.facts, **changes)  # type: ignore[arg-type]
        if facts != self.facts:
            self.facts = facts
            self._around.changed()


def _span(seconds: float) -> str:
    """Seconds as Go writes a duration: "10s", "2m40s"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
