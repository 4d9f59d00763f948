"""Logs: one line of JSON per record for machines, one readable line for people.

Messages are constant lower-case phrases; what varies goes into ``extra`` and becomes fields. Control
characters in values are escaped, so that a file name cannot forge a line.
"""

import json
import logging
import sys
import time
from typing import Any, TextIO

from cachefs.core.names import printable

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN}


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "at": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        line = f"{_timestamp(record)} {record.levelname.lower():7} {record.name}: "
        line += printable(f"{record.getMessage()} {fields}".rstrip())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _timestamp(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03}Z"


def configure(
    component: str, *, as_json: bool, level: str = "info", stream: TextIO | None = None
) -> None:
    """Send the process's logs to ``stream`` (standard error by default).

    Args:
        component: ``worker``, ``coordinator`` …; the first line names it, at level ``debug``.
        as_json: One JSON object a line instead of text.
        level: ``debug``, ``info``, ``warning`` or ``error``; other packages log from warning on.
        stream: Where to.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if as_json else _TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("cachefs").setLevel(level.upper())
    logging.getLogger("cachefs").debug("logging configured", extra={"component": component})
