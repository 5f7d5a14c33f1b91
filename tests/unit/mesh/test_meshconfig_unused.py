"""The tables of what changes nothing are about fields that there are, each in one table."""

from __future__ import annotations

from collections.abc import Iterator

from pilotfish.api.decode import fields_of
from pilotfish.api.meta import Struct
from pilotfish.mesh.meshconfig import MeshConfig
from pilotfish.mesh.meshconfig_unused import ISTIO_NEITHER, NOT_HONOURED, YET, not_honoured

BRACKETS = {"one": "", "list": "[]", "map": "{}"}


def paths(cls: type[Struct], path: str = "") -> Iterator[str]:
    for name, (shape, nested) in fields_of(cls).items():
        where = f"{path}{name}{BRACKETS[shape] if nested else ''}"
        yield where
        if nested is not None:
            yield from paths(nested, f"{where}.")


def test_every_field_is_there_and_in_one_table() -> None:
    assert set(paths(MeshConfig)) >= {path.partition("=")[0] for path in NOT_HONOURED}
    assert YET.isdisjoint(ISTIO_NEITHER)
    assert not [path for path in NOT_HONOURED for other in NOT_HONOURED if path.startswith(f"{other}.")]


def test_fields_without_effect_are_listed() -> None:
    document = {"accessLogFile": "/dev/stdout", "certificates": [{}], "defaultConfig": {"sds": {"enabled": True}}}
    assert not_honoured(document) == ["certificates", "defaultConfig.sds"]
