"""Causes in the words of Kubernetes' validation."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from cachefs.testing.kubernetes.documents import Json
from cachefs.testing.kubernetes.failures import Cause, shown_value

LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
"""A label of the domain name system, RFC 1123."""


def required(field: str, why: str = "") -> Cause:
    """Something is missing."""
    return Cause("FieldValueRequired", f"Required value{': ' if why else ''}{why}", field)


def invalid(field: str, value: Json, why: str) -> Cause:
    """Something cannot be so."""
    return Cause("FieldValueInvalid", f"Invalid value: {shown_value(value)}: {why}", field)


def forbidden(field: str, why: str) -> Cause:
    """Something may not be here."""
    return Cause("FieldValueForbidden", f"Forbidden: {why}", field)


def duplicate(field: str, value: Json) -> Cause:
    """Something is here twice."""
    return Cause("FieldValueDuplicate", f"Duplicate value: {shown_value(value)}", field)


def not_found(field: str, value: Json) -> Cause:
    """Something is named that is not there."""
    return Cause("FieldValueNotFound", f"Not found: {shown_value(value)}", field)


def one_of(field: str, value: Json, allowed: Iterable[str]) -> Iterator[Cause]:
    """Hold a value to a few words; one that is absent passes."""
    words = list(allowed)
    if value is not None and value not in words:
        listed = ", ".join(f'"{word}"' for word in words)
        text = f"Unsupported value: {shown_value(value)}: supported values: {listed}"
        yield Cause("FieldValueNotSupported", text, field)


def a_label(field: str, value: Json) -> Iterator[Cause]:
    """Hold a name to a label of the domain name system."""
    if not value:
        yield required(field)
    elif not LABEL.fullmatch(str(value)) or len(str(value)) > 63:
        why = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"
        yield invalid(field, value, why)


def between(field: str, value: Json, low: int, high: int) -> Iterator[Cause]:
    """Hold a number to a range; one that is absent passes."""
    if isinstance(value, int) and not low <= value <= high:
        yield invalid(field, value, f"must be between {low} and {high}, inclusive")


def exactly_one(field: str, names: Iterable[str], what: str) -> Iterator[Cause]:
    """Hold a choice to one of its ways."""
    found = list(names)
    if not found:
        yield required(field, f"must specify {what}")
    elif len(found) > 1:
        yield forbidden(
            f"{field}.{found[1]}", f"may not specify more than 1 {what.removeprefix('a ')}"
        )
