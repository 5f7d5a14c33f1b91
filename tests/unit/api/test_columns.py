from __future__ import annotations

from typing import Any

import pytest

from pilotfish.api import columns
from pilotfish.api.decode import decode
from pilotfish.api.kinds import POD

RUNNING = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}
CRASHING = {"waiting": {"reason": "CrashLoopBackOff"}}
TURN = {"waiting": {"reason": "PodInitializing"}}


def status(name: str, state: dict[str, Any], restarts: int = 0) -> dict[str, Any]:
    up = state is RUNNING
    return {"name": name, "state": state, "ready": up, "started": up, "restartCount": restarts}


@pytest.mark.parametrize(
    ("init", "sidecar", "main", "cells"),
    [
        (status("i", TURN), status("s", TURN), status("c", TURN), ("0/2", "Init:0/2", "0")),
        (status("i", CRASHING, 4), status("s", TURN), status("c", TURN), ("0/2", "Init:CrashLoopBackOff", "4")),
        (status("i", DONE, 4), status("s", TURN), status("c", TURN), ("0/2", "Init:1/2", "4")),
        (status("i", DONE, 4), status("s", RUNNING, 2), status("c", TURN), ("1/2", "PodInitializing", "2")),
        (status("i", DONE, 4), status("s", RUNNING, 2), status("c", RUNNING, 1), ("2/2", "Running", "3")),
    ],
)
def test_a_pod_with_init_containers_and_a_native_sidecar_is_shown_as_kubectl_users_know_it(
    init: dict[str, Any], sidecar: dict[str, Any], main: dict[str, Any], cells: tuple[str, ...]
) -> None:
    phase = "Running" if main["started"] else "Pending"
    document = {
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "c"}],
        },
        "status": {"phase": phase, "initContainerStatuses": [init, sidecar], "containerStatuses": [main]},
    }
    pod = decode(POD, document)
    shown = {column.name: column.cell(pod) for column in columns.POD}
    assert (shown["Ready"], shown["Status"], shown["Restarts"]) == cells
