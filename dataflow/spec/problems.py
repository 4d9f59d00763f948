"""Problems of a document: all of them at once, each with its place, as compilers tell them.

What checks a value knows its path in the document (``spec``, ``steps``, ``0``, ``with``) and notes a
:class:`Fault`; where that path stands in the file is looked up afterwards, by whoever has the file.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from cachefs.core.names import printable
from cachefs.core.nearest import did_you_mean
from cachefs.dataflow.spec.model import Place
from cachefs.errors import ConfigError

SHOWN_COUNT = 100
"""Problems that a message has at most; who has more begins with these."""

_LISTED_COUNT = 16
_COMPARED_LENGTH = 64
_COMPARED_COUNT = 500

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong at a path of a document."""

    path: Path
    message: str
    hint: str = ""
    offset: int | None = None
    """Characters from the beginning of the text that stands there, where it is within one."""
    at_key: bool = False
    """Whether the key is wrong, not what it holds."""
    secret: bool = False
    """Whether a secret may stand there, which is then not shown."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault with its place in a file."""

    file: str
    place: Place
    path: str
    message: str
    hint: str = ""
    secret: bool = False
    """Whether the line may hold a secret, and is not shown."""

    def __str__(self) -> str:
        """Return ``file:line:column: path: message (hint)``, on one line."""
        where = f"{self.file}:{self.place.line}:{self.place.column}"
        text = f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"
        return printable(f"{text} ({self.hint})" if self.hint else text)


class FlowDocumentError(ConfigError):
    """A flow that cannot be run as it is written. Its message has a line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep the problems, those that come first in the file first."""
        self.problems = tuple(
            sorted(problems, key=lambda one: (one.file, one.place.line, one.place.column))
        )
        lines = [str(problem) for problem in self.problems[:SHOWN_COUNT]]
        if len(self.problems) > SHOWN_COUNT:
            lines.append(f"and {len(self.problems) - SHOWN_COUNT} more problems")
        super().__init__("\n".join(lines))


class Misfit(Exception):  # noqa: N818 - it never leaves the checker: what is wrong has been noted
    """A value does not fit; the fault has been noted, or will be known when a template is rendered."""


class At:
    """A place in a document, while it is being checked, and the list of faults."""

    __slots__ = ("faults", "lenient", "path")

    def __init__(self, path: Path = (), *, lenient: bool = False) -> None:
        """Begin a list of faults.

        Args:
            path: Where in the document we are.
            lenient: Whether texts that hold templates are let pass, because they are not rendered yet.
        """
        self.path = path
        self.lenient = lenient
        self.faults: list[Fault] = []

    def __getitem__(self, key: str | int) -> "At":
        """Return the place of an item; it shares the list of faults."""
        at = At((*self.path, key), lenient=self.lenient)
        at.faults = self.faults
        return at

    def fault(
        self,
        message: str,
        hint: str = "",
        *,
        offset: int | None = None,
        at_key: bool = False,
        secret: bool = False,
    ) -> Misfit:
        """Note a fault, and return what to raise if nothing can be made of the value."""
        self.faults.append(Fault(self.path, message, hint, offset, at_key, secret))
        return Misfit()

    def unknown(
        self,
        what: str,
        name: str,
        known: Collection[str],
        *,
        offset: int | None = None,
        at_key: bool = False,
    ) -> Misfit:
        """Note that there is no such name, and which might have been meant."""
        hint = self.nearest(name, known) or listed(known)
        return self.fault(f"unknown {what} {quoted(name)}", hint, offset=offset, at_key=at_key)

    def nearest(self, name: str, known: Collection[str]) -> str:
        """Return the question whether the nearest name was meant; empty if none is near.

        Comparing names takes time. With more problems than anybody is shown, it is left out: so that a
        document in which everything is wrong is read as quickly as a good one.
        """
        return "" if len(self.faults) >= SHOWN_COUNT else nearest(name, known)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the question whether the nearest name was meant; takes milliseconds."""
    if len(name) > _COMPARED_LENGTH:
        return ""
    few = islice((one for one in known if len(one) <= _COMPARED_LENGTH), _COMPARED_COUNT)
    return did_you_mean(name, sorted(few))


def listed(known: Collection[str]) -> str:
    """Return what there is, as a hint; empty if nobody would read it all."""
    if not 0 < len(known) <= _LISTED_COUNT:
        return ""
    return f"there is {', '.join(quoted(name)[1:-1] for name in known)}"


def quoted(text: str) -> str:
    """Return text as it is shown in a message: short, and in quotes."""
    return repr(text if len(text) <= 60 else f"{text[:57]}…")


def kind_of(value: object) -> str:
    """Return what a value is, in the words of people who write YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else "a mapping"
