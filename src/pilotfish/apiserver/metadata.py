"""What the API server does with `metadata`: fills it, keeps what is its own, and says what names may look like."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Iterator

from pilotfish.api.errors import FieldError
from pilotfish.api.faults import forbidden, invalid, required, too_long
from pilotfish.api.meta import Document, ObjectMeta, metadata_of, timestamp
from pilotfish.api.scheme import AnyKind

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_LONGEST_GENERATED = 63

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"

_NAME_FORMATS = {
    "subdomain": (
        253,
        _SUBDOMAIN,
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
        f"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')",
    ),
    "label": (
        63,
        _LABEL,
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
        f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')",
    ),
    "dns1035": (
        63,
        _DNS1035,
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
        "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation "
        f"is '{_DNS1035}')",
    ),
}

_SERVER_OWNED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


def generated_name(prefix: str) -> str:
    """A name from `generateName`: five random characters of Kubernetes' alphabet, which spells no words."""
    suffix = "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    return prefix[: _LONGEST_GENERATED - _SUFFIX_LENGTH] + suffix


def fill_new(document: Document, *, has_generation: bool) -> None:
    """Give a document that is to be created an identity; what only the server may say is taken away first."""
    metadata = document["metadata"]
    for field in (*_SERVER_OWNED, "resourceVersion", "selfLink"):
        metadata.pop(field, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = timestamp()
    if has_generation:
        metadata["generation"] = 1


def keep_owned(document: Document, old: Document) -> None:
    """Undo what a client did to the fields that belong to the server."""
    metadata, kept = document["metadata"], metadata_of(old)
    for field in _SERVER_OWNED:
        if field in kept:
            metadata[field] = kept[field]
        else:
            metadata.pop(field, None)
    metadata.pop("selfLink", None)
    metadata["resourceVersion"] = kept.get("resourceVersion", "")


def being_deleted(document: Document) -> bool:
    return bool(metadata_of(document).get("deletionTimestamp"))


def name_errors(kind: AnyKind, name: str) -> Iterator[FieldError]:
    """What is wrong with an object's name, in Kubernetes' words."""
    longest, pattern, rule = _NAME_FORMATS[kind.name_format]
    if not name:
        yield required("metadata.name", "name or generateName is required")
        return
    if len(name) > longest:
        yield invalid("metadata.name", name, f"must be no more than {longest} characters")
    if not re.fullmatch(pattern, name):
        yield invalid("metadata.name", name, rule)


def _qualified_name_errors(path: str, key: str) -> Iterator[FieldError]:
    prefix, slash, name = key.rpartition("/")
    if (slash and not re.fullmatch(_SUBDOMAIN, prefix)) or not re.fullmatch(_QUALIFIED, name) or len(name) > 63:
        yield invalid(
            path,
            key,
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
            f"'{_QUALIFIED}'), with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        )


def label_errors(path: str, labels: dict[str, str]) -> Iterator[FieldError]:
    """What is wrong with labels, wherever they stand."""
    for key, value in labels.items():
        yield from _qualified_name_errors(path, key)
        if len(value) > 63:
            yield invalid(path, value, "must be no more than 63 characters")
        if not re.fullmatch(f"({_QUALIFIED})?", value):
            yield invalid(
                path,
                value,
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
                "must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex "
                f"used for validation is '({_QUALIFIED})?')",
            )


_LARGEST_ANNOTATIONS = 256 * 1024


def metadata_errors(kind: AnyKind, metadata: ObjectMeta) -> Iterator[FieldError]:
    """What is wrong with an object's metadata (apimachinery ValidateObjectMeta)."""
    yield from name_errors(kind, metadata.name)
    yield from label_errors("metadata.labels", metadata.labels)
    for key in metadata.annotations:
        yield from _qualified_name_errors("metadata.annotations", key.lower())
    if sum(len(k) + len(v) for k, v in metadata.annotations.items()) > _LARGEST_ANNOTATIONS:
        yield too_long("metadata.annotations", _LARGEST_ANNOTATIONS)
    for position, finalizer in enumerate(metadata.finalizers):
        yield from _qualified_name_errors(f"metadata.finalizers[{position}]", finalizer)
    controllers = [f"{ref.kind}/{ref.name}" for ref in metadata.owner_references if ref.controller]
    if len(controllers) > 1:
        yield invalid(
            "metadata.ownerReferences",
            controllers,
            "only one reference can have controller set to true",
        )


def immutability_errors(new: Document, old: Document) -> Iterator[FieldError]:
    """What an update changed in metadata that may not change (ValidateObjectMetaUpdate)."""
    after, before = metadata_of(new), metadata_of(old)
    for field in ("name", "namespace", "uid"):
        if after.get(field, "") != before.get(field, ""):
            yield invalid(f"metadata.{field}", after.get(field, ""), "field is immutable")
    added = [f for f in after.get("finalizers") or () if f not in (before.get("finalizers") or ())]
    if being_deleted(old) and added:
        listed = ", ".join(f'"{f}"' for f in added)
        yield forbidden(
            "metadata.finalizers",
            f"no new finalizers can be added if the object is being deleted, found new finalizers {listed}",
        )
