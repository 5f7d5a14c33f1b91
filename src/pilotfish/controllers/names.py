"""The names that Kubernetes' controllers make."""

from __future__ import annotations

from typing import Any

import msgspec

from pilotfish.api.apps import Deployment
from pilotfish.api.pods import PodTemplateSpec

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_ENCODER = msgspec.json.Encoder(order="deterministic")


def fnv32a(data: bytes) -> int:
    """The 32-bit FNV-1a hash."""
    digest = 0x811C9DC5
    for byte in data:
        digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return digest


def safe_encode(text: str) -> str:
    """The text in letters that spell no words (apimachinery: rand.SafeEncodeString)."""
    return "".join(_ALPHABET[ord(letter) % len(_ALPHABET)] for letter in text)


def canonical(value: Any) -> bytes:
    """JSON that is the same for equal values."""
    return _ENCODER.encode(value)


def template_hash(template: PodTemplateSpec, collisions: int | None) -> str:
    """The hash in a ReplicaSet's name: at most ten characters (kubernetes pkg/controller: ComputeHash).

    Kubernetes hashes Go's printing of the template, which nothing else can make; ours is of the template's JSON.
    """
    data = canonical(template)
    if collisions is not None:
        data += str(collisions).encode()
    return safe_encode(str(fnv32a(data)))


def replica_set_name(deployment: Deployment, digest: str) -> str:
    return f"{deployment.name}-{digest}"
