"""Renderings: a hint in the form that each scheduler takes.

All are pure functions of a hint and the question that it answers, and say no more than the hint: its
seconds become whatever scale, expression or order the scheduler knows. A hint without an opinion
becomes the form that changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question
from cachefs.hints.renderings.affinity import node_affinity
from cachefs.hints.renderings.backendai import backendai
from cachefs.hints.renderings.extender import extender
from cachefs.hints.renderings.kai import kai
from cachefs.hints.renderings.kueue import kueue
from cachefs.hints.renderings.nomad import nomad
from cachefs.hints.renderings.ray import ray
from cachefs.hints.renderings.slurm import slurm
from cachefs.hints.renderings.volcano import volcano

Rendering = Callable[[Hint, Question], Any]  # Any: JSON, as each scheduler wants it

RENDERINGS: Mapping[str, Rendering] = {
    "node_affinity": node_affinity,
    "extender": extender,
    "volcano": volcano,
    "kueue": kueue,
    "kai": kai,
    "slurm": slurm,
    "ray": ray,
    "nomad": nomad,
    "backendai": backendai,
}
"""By the name of the scheduler's form: what ``cachefs hint --format`` offers."""
