from __future__ import annotations

from pilotfish.api.kinds import DEPLOYMENT, NAMESPACE, POD
from pilotfish.client.paths import path_of


def test_paths() -> None:
    assert path_of(POD) == "/api/v1/pods"
    assert path_of(POD, "default") == "/api/v1/namespaces/default/pods"
    assert path_of(POD, "default", "web", "log") == "/api/v1/namespaces/default/pods/web/log"
    assert path_of(DEPLOYMENT, "a", "b") == "/apis/apps/v1/namespaces/a/deployments/b"
    assert path_of(NAMESPACE, "", "default") == "/api/v1/namespaces/default"
    assert path_of(POD, "default", "a/../b") == "/api/v1/namespaces/default/pods/a%2F..%2Fb"
