"""What a ``wait`` step may ask for: expressions over what the cache has at that moment."""

from cachefs.dataflow.spec.expressions import Expression, Name, parse
from cachefs.dataflow.spec.lexer import ExpressionError
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.spec.problems import At
from cachefs.dataflow.spec.shapes import text

WAIT_NAMES = (
    "cached_fraction",
    "verified",
    "bytes_resident",
    "bytes_total",
    "bytes_missing",
    "copies",
    "workers",
)
"""From 0 to 1; whether all that is resident was verified; bytes; of the rarest block; live in the pool."""


def condition(value: Value, at: At) -> Expression:
    """Return the expression that a text is, if it uses only names that there are."""
    try:
        expression = parse(text(value, at))
    except ExpressionError as error:
        raise at.fault(error.message, error.hint, offset=error.offset) from error
    unknown = [
        at.unknown("name", node.name, WAIT_NAMES, offset=node.offset)
        for node in expression.nodes()
        if isinstance(node, Name) and node.name not in WAIT_NAMES
    ]
    if unknown:
        raise unknown[0]
    return expression
