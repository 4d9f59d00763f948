"""Reading fields of an object: each with its type, or with what is wrong and where.

The API server checks objects before it keeps them; an object may have been kept under an older schema, though,
and a test writes whatever it likes. So nothing is taken for granted here.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cachefs.core.names import printable
from cachefs.errors import ConfigError

T = TypeVar("T")


class Fields:
    """The fields of an object within a document."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:  # Any: what JSON holds
        """Read from these; ``where`` is the path of the object: ``spec.warm``."""
        self._values = values
        self._where = where

    def where(self, name: str) -> str:
        """Return the path of a field."""
        return f"{self._where}.{name}"

    def has(self, name: str) -> bool:
        """Say whether a field is there."""
        return self._values.get(name) is not None

    def names(self) -> tuple[str, ...]:
        """Return the names of the fields that are there."""
        return tuple(name for name in self._values if self.has(name))

    def optional(self, name: str, read: Callable[[object, str], T]) -> T | None:
        """Return a field as something makes it of its value and its path; ``None`` if it is absent."""
        value = self._values.get(name)
        return None if value is None else read(value, self.where(name))

    def needed_text(self, name: str) -> str:
        """Return a text that must be there, and not be empty."""
        found = self.text(name, "")
        if not found:
            raise ConfigError("it must be given", subject=self.where(name))
        return found

    def text(self, name: str, without: str) -> str:
        """Return a text; ``without`` if it is absent."""
        found = self._typed(name, str, "a text")
        return without if found is None else found

    def whole(self, name: str, without: int) -> int:
        """Return a whole number that is not negative."""
        found = self.optional_whole(name)
        return without if found is None else found

    def optional_whole(self, name: str) -> int | None:
        """Return a whole number that is not negative, if it is there."""
        found = self._values.get(name)
        if found is None:
            return None
        if not isinstance(found, int) or isinstance(found, bool) or found < 0:
            raise _wrong(found, "a whole number", self.where(name))
        return found

    def flag(self, name: str, *, default: bool) -> bool:
        """Return yes or no."""
        found = self._typed(name, bool, "true or false")
        return default if found is None else found

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; empty if it is absent."""
        found = self._typed(name, list, "a list") or []
        return tuple(_text(one, f"{self.where(name)}[{at}]") for at, one in enumerate(found))

    def texts_by_name(self, name: str) -> dict[str, str]:
        """Return texts by name; empty if it is absent."""
        found = self._typed(name, dict, "an object") or {}
        return {key: _text(value, f"{self.where(name)}.{key}") for key, value in found.items()}

    def inner(self, name: str) -> "Fields | None":
        """Return the fields of an object, if it is there."""
        found = self._typed(name, dict, "an object")
        return None if found is None else Fields(found, self.where(name))

    def listed(self, name: str) -> tuple["Fields", ...]:
        """Return the fields of each object in a list; none if it is absent."""
        found = self._typed(name, list, "a list") or []
        return tuple(
            Fields(_object(one, f"{self.where(name)}[{at}]"), f"{self.where(name)}[{at}]")
            for at, one in enumerate(found)
        )

    def free(self, name: str) -> dict[str, Any]:  # Any: somebody else's fields
        """Return an object as it is; empty if it is absent."""
        found: dict[str, Any] = self._typed(name, dict, "an object") or {}
        return found

    def free_list(self, name: str) -> tuple[dict[str, Any], ...]:  # Any: likewise
        """Return a list of objects as they are; empty if it is absent."""
        found = self._typed(name, list, "a list") or []
        return tuple(_object(one, f"{self.where(name)}[{at}]") for at, one in enumerate(found))

    def _typed(self, name: str, kind: type[T], words: str) -> T | None:
        found = self._values.get(name)
        if found is None or isinstance(found, kind):
            return found
        raise _wrong(found, words, self.where(name))


def fields_of(document: Mapping[str, Any], name: str) -> Fields:  # Any: what JSON holds
    """Return the fields of a part of a document; of nothing, if it has no such part.

    Raises:
        ConfigError: The part is no object.
    """
    return Fields(_object(document.get(name) or {}, name), name)


def _object(found: object, where: str) -> dict[str, Any]:  # Any: what JSON holds
    if not isinstance(found, dict):
        raise _wrong(found, "an object", where)
    return found


def _text(found: object, where: str) -> str:
    if not isinstance(found, str):
        raise _wrong(found, "a text", where)
    return found


def _wrong(found: object, words: str, where: str) -> ConfigError:
    return ConfigError(f"it must be {words}, not {printable(repr(found)[:40])}", subject=where)
