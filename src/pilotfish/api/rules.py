"""What single values may look like in Kubernetes, and what it says when they do not (apimachinery util/validation)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from pilotfish.api.errors import FieldError
from pilotfish.api.faults import invalid

Faults = Iterator[FieldError]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")

PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})

_NAMES = {
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


def name(path: str, text: str, form: str) -> Faults:
    """A name of a form: "subdomain" or "label" (RFC 1123), or "dns1035"."""
    longest, pattern, rule = _NAMES[form]
    if len(text) > longest:
        yield invalid(path, text, f"must be no more than {longest} characters")
    if not re.fullmatch(pattern, text):
        yield invalid(path, text, rule)


def qualified_name(path: str, key: str) -> Faults:
    """The key of a label or an annotation, with or without its prefix."""
    prefix, slash, part = key.rpartition("/")
    if (slash and not re.fullmatch(_SUBDOMAIN, prefix)) or not re.fullmatch(_QUALIFIED, part) or len(part) > 63:
        yield invalid(
            path,
            key,
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
            f"'{_QUALIFIED}'), with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        )


def labels(path: str, values: dict[str, str]) -> Faults:
    for key, value in values.items():
        yield from qualified_name(path, key)
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


def port_number(path: str, port: int) -> Faults:
    if not 1 <= port <= 65535:
        yield invalid(path, port, "must be between 1 and 65535, inclusive")


def port_name(path: str, text: str) -> Faults:
    if len(text) > 15 or not _PORT_NAME.fullmatch(text):
        yield invalid(
            path,
            text,
            "must be no more than 15 characters, of lower case letters, digits and single hyphens, with at least one "
            "letter",
        )


def port_number_or_name(path: str, port: int | str) -> Faults:
    yield from port_number(path, port) if isinstance(port, int) else port_name(path, port)


def not_negative(path: str, value: int | None) -> Faults:
    if value is not None and value < 0:
        yield invalid(path, value, "must be greater than or equal to 0")


def address(path: str, text: str) -> Faults:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        yield invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
