"""Nomad's affinities, as a job file has them and as its HTTP API takes them.

A weight is of -100 to 100; Nomad adds up those that match a node, divides by the sum of all, and takes
the average with its other scores. A strong affinity is a constraint besides.
"""

import json
import re
from typing import Any

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question
from cachefs.hints.renderings.scales import binds, hosts, weighted

ATTRIBUTE = "${node.unique.name}"


def nomad(hint: Hint, question: Question) -> dict[str, Any]:
    """Return ``hcl`` for a job file and ``Affinities`` and ``Constraints`` for the API."""
    affinities = [
        {"LTarget": ATTRIBUTE, "RTarget": node, "Operand": "=", "Weight": weight}
        for node, weight in weighted(hint)
    ]
    admitted = hosts(hint) if binds(hint, question) else []
    constraints = []
    if admitted:
        pattern = f"^({'|'.join(re.escape(node) for node in sorted(admitted))})$"
        constraints = [{"LTarget": ATTRIBUTE, "RTarget": pattern, "Operand": "regexp"}]
    blocks = [_block("affinity", each) for each in affinities]
    blocks += [_block("constraint", each) for each in constraints]
    return {"hcl": "\n".join(blocks), "Affinities": affinities, "Constraints": constraints}


def _block(kind: str, values: dict[str, Any]) -> str:
    lines = [
        f"{kind} {{",
        f'  attribute = "{values["LTarget"]}"',
        f'  operator  = "{values["Operand"]}"',
        f"  value     = {_quoted(values['RTarget'])}",
    ]
    if "Weight" in values:
        lines.append(f"  weight    = {values['Weight']}")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    """Return a string of HCL, which has JSON's escapes and begins templates with ``${`` and ``%{``."""
    return json.dumps(text).replace("${", "$${").replace("%{", "%%{")
