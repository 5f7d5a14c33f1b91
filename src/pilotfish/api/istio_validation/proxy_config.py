"""What Istio refuses of a ProxyConfig, and what it warns of (pkg/config/validation: ValidateProxyConfig)."""

from __future__ import annotations

from pilotfish.api.faults import invalid
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.proxy_config import ProxyConfig

_LONGEST_VARIABLE = 2048


def proxy_config(obj: ProxyConfig) -> Faults:
    """The faults of a ProxyConfig."""
    if obj.spec.selector:
        yield from values.selector("spec.selector.matchLabels", obj.spec.selector.match_labels)
    for name, value in obj.spec.environment_variables.items():
        if len(value) > _LONGEST_VARIABLE:
            why = f"a variable has at most {_LONGEST_VARIABLE} characters"
            yield invalid(f"spec.environmentVariables[{name}]", f"{value[:32]}…", why)


def proxy_config_warnings(obj: ProxyConfig) -> Faults:
    if obj.spec.selector:
        yield from values.selects_all("spec.selector", obj.spec.selector.match_labels)
