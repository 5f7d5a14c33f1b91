"""Which extension providers are refused."""

from __future__ import annotations

import pytest

from pilotfish.api.errors import Invalid
from pilotfish.mesh.meshconfig import mesh_config


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ({"zipkin": {"service": "a", "port": 1}}, "name"),
        ({"name": "a", "zipkin": {"port": 9411}}, "extensionProviders[0].zipkin.service"),
        (
            {"name": "a", "opentelemetry": {"service": "a/b/c", "port": 1}},
            "extensionProviders[0].opentelemetry.service",
        ),
        ({"name": "a", "envoyOtelAls": {"service": "a", "port": 70000}}, "extensionProviders[0].envoyOtelAls.port"),
        ({"name": "a", "envoyFileAccessLog": {"pth": "x"}}, "extensionProviders[0].envoyFileAccessLog.pth"),
        ({"name": "a", "prometheus": {}, "zipkin": {"service": "a", "port": 1}}, "extensionProviders[0].prometheus"),
    ],
)
def test_faults_are_named(provider: dict[str, object], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        mesh_config({"extensionProviders": [provider]})
    assert path in str(caught.value)


def test_two_of_one_name() -> None:
    providers = [{"name": "a", "prometheus": {}}, {"name": "a", "prometheus": {}}]
    with pytest.raises(Invalid, match="another provider has the same name"):
        mesh_config({"extensionProviders": providers})
