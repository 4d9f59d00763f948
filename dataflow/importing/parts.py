"""Parts of somebody else's document, with an account of what was taken from them.

Whoever reads a part takes its keys one by one, or says why one is left out. What nobody asked for is noted
in the end, so that nothing is dropped without a word, not even a key that did not exist when this was
written. What cannot be said in a flow is refused, with its place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cachefs.core.names import printable
from cachefs.dataflow.spec.document import Document
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.spec.problems import Path, Problem, kind_of, quoted


@dataclass(slots=True)
class Account:
    """What is told of a whole file."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, subject: str, text: str) -> None:
        """Note something once."""
        note = printable(f"{subject}: {text}" if subject else text)
        if note not in self.notes:
            self.notes.append(note)


class Part:
    """A mapping of a document; an empty one stands for what is not there."""

    def __init__(
        self, account: Account, document: Document, subject: str, path: Path, value: Value
    ) -> None:
        """Take nothing yet.

        Args:
            account: Where notes and problems go.
            document: The document that it is a part of.
            subject: What it belongs to, for notes: ``DataLoad warm``.
            path: Where it stands.
            value: What stands there.
        """
        self.account = account
        self.subject = subject
        self._document = document
        self._path = path
        self._left: dict[str, Value] = {}
        self._parts: list[Part] = []
        if isinstance(value, Mapping):
            self._left = {key: item for key, item in value.items() if item is not None}
        elif value is not None:
            self.refuse("", f"{kind_of(value)}, where a mapping is needed")

    def __bool__(self) -> bool:
        """Say whether anything is left to take."""
        return bool(self._left)

    def __contains__(self, key: str) -> bool:
        """Say whether a key is left to take."""
        return key in self._left

    def text(self, key: str) -> str:
        """Take a text as a flow says it; empty if there is none."""
        value = self._left.pop(key, "")
        return self._text(key, value)

    def texts(self, key: str) -> list[str]:
        """Take a list of texts."""
        return [self._text(key, item) for item in self._items(key)]

    def number(self, key: str) -> int:
        """Take a whole number; 0 if there is none."""
        value = self._left.pop(key, 0)
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(key, f"{kind_of(value)}, where a number is needed")
            return 0
        return value

    def part(self, key: str) -> "Part":
        """Take a mapping."""
        return self._part((*self._path, key), self._left.pop(key, None))

    def parts(self, key: str) -> list["Part"]:
        """Take a list of mappings."""
        found = self._items(key)
        return [self._part((*self._path, key, index), one) for index, one in enumerate(found)]

    def names(self) -> list[str]:
        """Return the keys that are left to take."""
        return list(self._left)

    def peek(self, keys: tuple[str, ...]) -> Value:
        """Return what stands below these keys, and leave it there; ``None`` if nothing does."""
        value: Value = self._left
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def leave(self, why: str, *keys: str) -> None:
        """Take keys that have no counterpart, and note it."""
        for key in keys:
            value = self._left.pop(key, None)
            if value not in (None, {}, [], "", False):
                self.note(f"{self._shown(key)} is left out: {why}")

    def drop(self, *keys: str) -> None:
        """Take keys that say nothing of what shall be done."""
        for key in keys:
            self._left.pop(key, None)

    def note(self, text: str) -> None:
        """Note something of what this belongs to."""
        self.account.note(self.subject, text)

    def refuse(self, key: str, message: str, hint: str = "", *, secret: bool = False) -> None:
        """Note what cannot be said in a flow."""
        path = (*self._path, key) if key else self._path
        self.account.problems.append(
            Problem(
                self._document.file,
                self._document.place(path, at_key=bool(key)),
                f"{self.subject}: {self._shown(key)}",
                message,
                hint,
                secret,
            )
        )

    def settle(self) -> None:
        """Note what nobody has taken."""
        for key in self.names():
            self.leave("it is not known here", key)
        for part in self._parts:
            part.settle()

    def _part(self, path: Path, value: Value) -> "Part":
        part = Part(self.account, self._document, self.subject, path, value)
        self._parts.append(part)
        return part

    def _items(self, key: str) -> Iterator[Value]:
        value = self._left.pop(key, [])
        if not isinstance(value, list):
            self.refuse(key, f"{kind_of(value)}, where a list is needed")
            return iter(())
        return iter(value)

    def _text(self, key: str, value: Value) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if not isinstance(value, str | int | float):
            self.refuse(key, f"{kind_of(value)}, where text is needed")
            return ""
        return str(value).replace("${", "$${")

    def _shown(self, key: str) -> str:
        names = (*self._path, key) if key else self._path
        shown = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in names)
        return shown.lstrip(".")


def shown(text: str) -> str:
    """Return a text for a message."""
    return quoted(printable(text))
