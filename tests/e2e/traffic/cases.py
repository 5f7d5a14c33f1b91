"""The language of the cases: what is applied, what is sent, and what must arrive and come back."""

from __future__ import annotations

import collections
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from string import Template
from typing import Any

from traffic.bounds import plausible

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: $name, namespace: traffic}
spec:
  selector: {app: b}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: http2, port: 81, targetPort: 8081}
  - {name: grpc, port: 82, targetPort: 8082}
  - {name: tcp, port: 83, targetPort: 8083}
  - {name: tcp-server-first, port: 84, targetPort: 8084}
  - {name: auto, port: 85, targetPort: 8085}
  - {name: tls, port: 443, targetPort: 8443}
"""
"""The Service that a case gets under a name of its own: the pods b, in three versions, and a port a protocol."""

GATEWAY = """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: $name}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [$host]}]
"""

Answer = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """Requests, and what is expected of each of them or of their counts. Made by `http`, `grpc` and the others."""

    job: Mapping[str, Any]
    """A job of `echo.jobs`."""
    client: str = "a"
    answers: Mapping[str, Any] = field(default_factory=dict)
    """What comes back: fields of the answer, as `difference` compares them."""
    arrives: Mapping[str, Any] | None = field(default_factory=dict)
    """What the server received: fields of its report. None: the request arrives nowhere."""
    shares: Mapping[Any, float] | None = None
    """Of many requests, the probability of each value of `by`; no other value may occur."""
    by: Callable[[Answer], Any] = lambda answer: answer["echo"]["version"]
    took: tuple[float, float] | None = None
    """Seconds that each request takes, at least and at most."""
    error: str | None = None
    """A pattern for how each request fails, where it gets no answer."""
    check: Callable[[list[Answer]], object] | None = None
    """Whatever else holds of all the answers; it asserts."""

    def faults(self, found: Sequence[Answer]) -> list[str]:
        """What is not as expected, in words; nothing when all is."""
        faults = [fault for answer in found for fault in self._faults_of(answer)]
        if not faults and self.shares is not None:
            faults += self._counted(found)
        if not faults and self.check is not None:
            try:
                self.check(list(found))
            except AssertionError as error:
                faults.append(str(error))
        return faults

    def _faults_of(self, answer: Answer) -> list[str]:
        faults = []
        if self.took and not self.took[0] <= answer["took"] <= self.took[1]:
            faults.append(f"took {answer['took']:.3f} s, which is not from {self.took[0]} to {self.took[1]}")
        if self.error is not None:
            if not re.search(self.error, answer.get("error", "")):
                faults.append(f"expected the error {self.error!r}, got {json.dumps(answer)[:2000]}")
            return faults
        if "error" in answer:
            return [*faults, answer["error"]]
        faults += difference(self.answers, answer, "answers")
        echo = answer.get("echo")
        if self.arrives is None and echo is not None:
            faults.append(f"arrived, which it must not: {json.dumps(echo)[:2000]}")
        elif self.arrives and echo is None:
            faults.append(f"no report: {json.dumps(answer)[:2000]}")
        elif self.arrives:
            faults += difference(self.arrives, echo, "arrives")
        return faults

    def _counted(self, found: Sequence[Answer]) -> list[str]:
        assert self.shares is not None
        counts, total = collections.Counter(map(self.by, found)), len(found)
        faults = [
            f"{value!r} {counts[value]} times of {total}, and never expected" for value in counts.keys() - self.shares
        ]
        for value, share in self.shares.items():
            low, high = plausible(total, share)
            if not low <= counts[value] <= high:
                faults.append(f"{value!r} {counts[value]} times of {total}, expected {low} to {high}")
        return faults

    def once(self) -> Step:
        """The step as a probe: one request, held to what holds of each."""
        return dataclasses.replace(self, job={**self.job, "count": 1}, shares=None, check=None)


@dataclass(frozen=True)
class Case:
    """Resources, and steps in order. `$name` is the case's own Service; the README lists what else is replaced."""

    what: str
    manifest: str
    steps: tuple[Step, ...]
    service: str = SERVICE
    settle: Step | None = None
    """What shows that the resources are in force; by default the first step, sent once."""

    def __str__(self) -> str:
        return self.what

    def by(self, client: str) -> Case:
        """The same, sent by another client."""
        steps = tuple(dataclasses.replace(step, client=client) for step in self.steps)
        settle = dataclasses.replace(self.settle, client=client) if self.settle else None
        return dataclasses.replace(self, steps=steps, settle=settle)


def at_gateway(cases: Sequence[Case]) -> list[Case]:
    """The same at the ingress gateway, of the cases that send HTTP to port 80 of `$host`."""
    return [_at_gateway(case) for case in cases if all(map(_of_port_80, case.steps))]


def _of_port_80(step: Step) -> bool:
    http = step.job["protocol"] in ("HTTP/1.1", "HTTP/2")
    return http and step.client == "a" and bool(step.job["url"].startswith("http://$host/"))


def _at_gateway(case: Case) -> Case:
    assert "  hosts: [$host]\n" in case.manifest, case.what
    manifest = case.manifest.replace("  hosts: [$host]\n", "  hosts: [$host]\n  gateways: [$name]\n") + GATEWAY
    return dataclasses.replace(
        case,
        manifest=manifest,
        steps=tuple(map(_from_outside, case.steps)),
        settle=_from_outside(case.settle) if case.settle else None,
    )


def _from_outside(step: Step) -> Step:
    return dataclasses.replace(step, client="outside", job={**step.job, "address": "$ingress:80"})


def case(what: str, manifest: str, *steps: Step, service: str = SERVICE, settle: Step | None = None) -> Case:
    return Case(what, manifest, steps, service, settle)


def http(
    url: str,
    *,
    instruct: Mapping[str, Any] | None = None,
    status: int = 200,
    answers: Mapping[str, Any] | None = None,
    protocol: str = "HTTP/1.1",
    **rest: Any,
) -> Step:
    """An HTTP request. `rest` are fields of Step, and of the client's job (`method`, `headers`, `body`, `count`, …)."""
    return _step(url, protocol, instruct, {"status": status, **(answers or {})}, rest)


def http2(url: str, **rest: Any) -> Step:
    return http(url, protocol="HTTP/2", **rest)


def grpc(
    url: str,
    *,
    instruct: Mapping[str, Any] | None = None,
    status: int = 0,
    answers: Mapping[str, Any] | None = None,
    stream: bool = False,
    **rest: Any,
) -> Step:
    """A call of the echo service, or of the method that the URL names; `status` is gRPC's."""
    return _step(url, "gRPC-stream" if stream else "gRPC", instruct, {"status": status, **(answers or {})}, rest)


def tcp(url: str, *, instruct: Mapping[str, Any] | None = None, **rest: Any) -> Step:
    """A connection on which lines are sent and answered (`tcp://host:port`)."""
    if instruct is not None:
        rest["body"] = f"x-echo {json.dumps(instruct)}"
    return _step(url, "TCP", None, rest.pop("answers", {}), rest)


def websocket(url: str, *, status: int = 101, answers: Mapping[str, Any] | None = None, **rest: Any) -> Step:
    """A WebSocket (`ws://host/path`), and a message for each line of `body`."""
    return _step(url, "websocket", None, {"status": status, **(answers or {})}, rest)


def _step(
    url: str, protocol: str, instruct: Mapping[str, Any] | None, answers: Mapping[str, Any], rest: dict[str, Any]
) -> Step:
    own = {field.name for field in dataclasses.fields(Step)} - {"job", "answers"}
    job: dict[str, Any] = {name: value for name, value in rest.items() if name not in own}
    if instruct is not None:
        job["headers"] = {**job.get("headers", {}), "x-echo": json.dumps(instruct)}
    if protocol in ("TCP", "gRPC", "gRPC-stream"):
        job.setdefault("body", "ping")
    expected = {name: value for name, value in rest.items() if name in own}
    return Step({"protocol": protocol, "url": url, **job}, answers=answers, **expected)


def difference(expected: Any, found: Any, where: str) -> list[str]:
    """What of `expected` is not in `found`.

    Mappings are compared field by field, those expected alone, and None there says that there is no such field; a
    compiled pattern is searched for in the text, a function is asked; everything else must be equal.
    """
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            return [f"{where}: {found!r} has no fields"]
        return [
            fault for key, value in expected.items() for fault in difference(value, found.get(key), f"{where}.{key}")
        ]
    if isinstance(expected, re.Pattern):
        holds = isinstance(found, str) and expected.search(found) is not None
    elif callable(expected):
        holds = bool(expected(found))
    else:
        holds = expected == found
    return [] if holds else [f"{where}: expected {expected!r}, found {found!r}"]


def substituted(value: Any, names: Mapping[str, str]) -> Any:
    """The value with `$name` replaced in every text within it; other dollars stay."""
    if isinstance(value, str):
        return Template(value).safe_substitute(names)
    if isinstance(value, re.Pattern):
        return re.compile(Template(value.pattern).safe_substitute({k: re.escape(v) for k, v in names.items()}))
    if isinstance(value, Mapping):
        return {substituted(key, names): substituted(item, names) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(substituted(item, names) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: substituted(getattr(value, field.name), names) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value
