"""Backend.AI's parameters of a new session: agents in our order, preferred or the only ones."""

from typing import Any

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question
from cachefs.hints.renderings.scales import TERMS_MAX, binds, tells_apart


def backendai(hint: Hint, question: Question) -> dict[str, Any]:
    """Return what to add to a session's creation; empty without an opinion.

    Agents are named as hints know their nodes: an inventory for Backend.AI names nodes by agent
    (``i-node1``).
    """
    required = binds(hint, question)
    if hint.gang is not None:
        agents = list(dict.fromkeys(hint.gang.assignment))
    elif required or tells_apart(hint):
        agents = [each.node for each in hint.nodes[:TERMS_MAX]]
    else:
        agents = []
    if not agents:
        return {}
    return {"agent_list": agents, "agent_selection_policy": "strict" if required else "preferred"}
