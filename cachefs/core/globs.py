r"""Globs: which files of an origin belong to a dataset.

A pattern is matched against a file's ``/``-separated path:

====================  ============================================================================
``*.bin``             without a ``/`` it matches the file's name, in whichever folder
``onnx/*.bin``        with a ``/`` it matches the whole path, from the dataset's root
``/config.json``      a leading ``/`` ties a name to the root
``onnx/``             a trailing ``/`` names a folder, in whichever folder, and all below it
``a/**/b``            ``**`` as a whole segment is any number of folders, none included
``a/**``              everything below ``a``
``?`` ``[a-c]``       one character, one of a set; ``[!a-c]`` one that is not of it
``\*``                a backslash takes the next character literally
====================  ============================================================================

``*``, ``?`` and sets never match a ``/``. Upper and lower case differ. A file belongs to the
dataset if it matches an include pattern, or there is none, and matches no exclude pattern.

Patterns are compiled once, to regular expressions without backtracking inside a segment, so that
no pattern a user sends can keep a server busy.
"""

import re
from collections.abc import Iterable

from cachefs.errors import ConfigError

PATTERN_LENGTH_MAX = 1024
FOLDER_WILDCARDS_MAX = 4
"""``**`` in one pattern: matching time grows with the depth of a path to the power of this."""

_ANY_FOLDERS = "(?:[^/]+/)*"


class Globs:
    """Include and exclude patterns, compiled."""

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        """Compile the patterns.

        Raises:
            ConfigError: A pattern cannot match anything.
        """
        self._include = tuple(compile_glob(pattern) for pattern in include)
        self._exclude = tuple(compile_glob(pattern) for pattern in exclude)

    def select(self, path: str) -> bool:
        """Say whether a file belongs to the dataset."""
        if self._include and not any(glob.fullmatch(path) for glob in self._include):
            return False
        return not any(glob.fullmatch(path) for glob in self._exclude)


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Return a regular expression whose ``fullmatch`` of a path is the pattern's.

    Raises:
        ConfigError: The pattern is empty, too long, or has an open ``[`` or a trailing backslash.
    """
    if not pattern.strip("/"):
        raise ConfigError(f"an empty pattern: {pattern!r}", hint="use ** for all files")
    if len(pattern) > PATTERN_LENGTH_MAX:
        raise ConfigError(f"a pattern of more than {PATTERN_LENGTH_MAX} characters")
    folder = pattern.endswith("/")
    body = pattern.strip("/")
    rooted = pattern.startswith("/") or "/" in body
    segments = body.split("/")
    if not rooted:
        segments.insert(0, "**")
    if folder:
        segments.append("**")
    # `**` beside `**` says nothing more, and would only make matching slower.
    segments = [
        segment
        for index, segment in enumerate(segments)
        if segment != "**" or index == 0 or segments[index - 1] != "**"
    ]
    if segments.count("**") > FOLDER_WILDCARDS_MAX:
        raise ConfigError(
            f"more than {FOLDER_WILDCARDS_MAX} times '**' in {pattern!r}", hint="use fewer"
        )
    last = len(segments) - 1
    parts = []
    for index, segment in enumerate(segments):
        if segment != "**":
            parts.append(_segment(segment, pattern) + ("/" if index < last else ""))
        else:
            parts.append(_ANY_FOLDERS if index < last else _ANY_FOLDERS + "[^/]+")
    return re.compile("".join(parts), re.DOTALL)


def _segment(segment: str, pattern: str) -> str:
    """Translate what stands between two slashes.

    The text between two stars is taken at its first occurrence and never tried again at a later one
    (an atomic group): if the rest matches after a later occurrence, it does after the first too.
    """
    runs = _runs(segment, pattern)
    if len(runs) == 1:
        return runs[0]
    middle = "".join(f"(?>[^/]*?{run})" for run in runs[1:-1] if run)
    # A name that is nothing but stars still has a character: no path has an empty segment.
    start = "" if any(runs) else "(?=[^/])"
    return f"{start}{runs[0]}{middle}[^/]*{runs[-1]}"


def _runs(segment: str, pattern: str) -> list[str]:
    """Return the expressions of what stands between the stars."""
    runs = [""]
    at = 0
    while at < len(segment):
        character = segment[at]
        at += 1
        if character == "*":
            runs.append("")
        elif character == "?":
            runs[-1] += "[^/]"
        elif character == "[":
            expression, at = _character_set(segment, at, pattern)
            runs[-1] += expression
        elif character == "\\":
            if at == len(segment):
                raise ConfigError(f"a backslash at the end of {pattern!r}", hint="write \\\\")
            runs[-1] += re.escape(segment[at])
            at += 1
        else:
            runs[-1] += re.escape(character)
    return runs


def _character_set(segment: str, at: int, pattern: str) -> tuple[str, int]:
    """Translate a set whose ``[`` ends before ``at``; return it and where it ends."""
    negated = segment[at : at + 1] == "!"
    begin = at + negated
    # A `]` that comes first is a member of the set.
    end = segment.find("]", begin + 1)
    if end < 0:
        raise ConfigError(f"an open [ in {pattern!r}", hint="close it, or write \\[")
    members = "".join(
        character if character == "-" else re.escape(character) for character in segment[begin:end]
    )
    # A range such as [.-0] has the slash within it, and a set never matches one.
    expression = f"[^/{members}]" if negated else f"(?!/)[{members}]"
    try:
        re.compile(expression)
    except re.error as error:
        raise ConfigError(f"a bad set in {pattern!r}: {error}") from error
    return expression, end + 1
