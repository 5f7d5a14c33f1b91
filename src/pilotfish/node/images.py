"""The local image store. A container's file system is the host's, so an image is what it says to run: one JSON file."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import msgspec

from pilotfish.node.sandbox import write_private

_NAME = re.compile(
    r"(?P<name>(?:[a-zA-Z0-9][a-zA-Z0-9.-]*(?::[0-9]+)?/)?[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>[a-z0-9]+:[0-9a-fA-F]{32,}))?"
)

PROXY_REPOSITORY: Final = "proxyv2"


class InvalidImageName(ValueError):
    """The text is no image name (Docker: reference)."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the store. `command` is what runs when a container gives no command of its own."""

    name: str
    command: tuple[str, ...]
    workdir: str = "/"
    env: dict[str, str] = {}

    @property
    def id(self) -> str:
        """Changes exactly when the entry does, as a digest would."""
        return f"sha256:{hashlib.sha256(msgspec.json.encode(self)).hexdigest()}"


def normalise(name: str) -> str:
    """The image name in full, as Docker reads it: registry, path and tag ("web" is "docker.io/library/web:latest").

    Raises InvalidImageName.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise InvalidImageName(f"{name!r} is not an image name: expected [HOST[:PORT]/]PATH[:TAG], path in lower case")
    path = found["name"]
    first, slash, _ = path.partition("/")
    if not slash:
        path = f"docker.io/library/{path}"
    elif "." not in first and ":" not in first and first != "localhost":
        path = f"docker.io/{path}"
    if found["digest"]:
        return f"{path}@{found['digest']}"
    return f"{path}:{found['tag'] or 'latest'}"


def is_proxy_image(name: str) -> bool:
    """Whether the image is Istio's proxy, which is built in and needs no entry: Envoy, run by the node."""
    try:
        path = normalise(name).partition("@")[0].rpartition(":")[0] or name
    except InvalidImageName:
        return False
    return path.rpartition("/")[2] == PROXY_REPOSITORY


def add(folder: Path, image: Image) -> Image:
    """Put an entry into the store, in place of one of the same name. Raises InvalidImageName."""
    entry = msgspec.structs.replace(image, name=normalise(image.name))
    write_private(_file(folder, entry.name), msgspec.json.format(msgspec.json.encode(entry), indent=2), 0o644)
    return entry


def get(folder: Path, name: str) -> Image | None:
    """The entry of a name, or None. Raises InvalidImageName."""
    try:
        return msgspec.json.decode(_file(folder, normalise(name)).read_bytes(), type=Image)
    except FileNotFoundError:
        return None


def entries(folder: Path) -> list[Image]:
    """The whole store by name."""
    if not folder.is_dir():
        return []
    images = [msgspec.json.decode(path.read_bytes(), type=Image) for path in folder.glob("*.json")]
    return sorted(images, key=lambda image: image.name)


def remove(folder: Path, name: str) -> bool:
    """Take an entry out. Returns whether there was one. Raises InvalidImageName."""
    try:
        _file(folder, normalise(name)).unlink()
    except FileNotFoundError:
        return False
    return True


def _file(folder: Path, full_name: str) -> Path:
    """One file an image, with a name that a person recognises and no two images share."""
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", full_name)[-100:]
    return folder / f"{readable}-{hashlib.sha256(full_name.encode()).hexdigest()[:8]}.json"
