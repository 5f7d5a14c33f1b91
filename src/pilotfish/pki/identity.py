"""SPIFFE identities as Istio forms them: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_SPIFFE = re.compile(rf"spiffe://(?P<trust_domain>{_NAME})/ns/(?P<namespace>{_NAME})/sa/(?P<service_account>{_NAME})")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a workload is: its service account. `str()` gives the SPIFFE URI."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @staticmethod
    def parse(uri: str) -> Identity:
        """The identity that a SPIFFE URI names. Raises ValueError when it has another form."""
        found = _SPIFFE.fullmatch(uri)
        if found is None:
            raise ValueError(f"{uri!r} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")
        return Identity(**found.groupdict())


def node_identity(trust_domain: str) -> Identity:
    """What node agents are called: the identity that may ask for the certificates of the pods on its node."""
    return Identity(trust_domain, "kube-system", "pilotfish-node")
