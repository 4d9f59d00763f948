"""Fields of what schedulers send: JSON by Go programs, of which only some parts concern us.

Go reads names of fields in any case, and its types without tags write them capitalised; so names are
compared in any case. What has another type than it should is taken for absent: a pod that we do not
understand is none of ours, and the scheduler must not stumble over it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cachefs.errors import ConfigError


def document(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object that is a request's body.

    Raises:
        ConfigError: It is none.
    """
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ConfigError("the body is not JSON") from error
    if not isinstance(parsed, dict):
        raise ConfigError("the body is not a JSON object")
    return parsed


def field(holder: Any, *path: str) -> Any:  # Any: JSON
    """Return what is at a path of names, or ``None``."""
    for name in path:
        if not isinstance(holder, dict):
            return None
        holder = holder[name] if name in holder else _in_any_case(holder, name)
    return holder


def _in_any_case(holder: Mapping[str, Any], name: str) -> Any:  # Any: JSON
    wanted = name.casefold()
    return next((value for key, value in holder.items() if key.casefold() == wanted), None)


def text(holder: Any, *path: str) -> str:  # Any: JSON
    """Return the text at a path; empty if there is none."""
    found = field(holder, *path)
    return found if isinstance(found, str) else ""


def objects(holder: Any, *path: str) -> Sequence[Mapping[str, Any]]:  # Any: JSON
    """Return the objects of the list at a path; none if there is no list."""
    found = field(holder, *path)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else ()


def texts(holder: Any, *path: str) -> Mapping[str, str]:  # Any: JSON
    """Return the texts of the object at a path, by key: labels, annotations, a selector."""
    found = field(holder, *path)
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}
