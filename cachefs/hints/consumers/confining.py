"""Confining: a pod gets hints about what its namespace may know of.

A hint says which nodes hold a dataset, and asking for one can have bytes brought to a node. Who may create a
pod may name any dataset in it, so of a namespace that is not trusted (:mod:`cachefs.core.tenants`) only its own
datasets are asked about. With whom a dataset is shared is written in a cluster's objects, of which the
coordinator knows nothing: affinity for others' datasets is for namespaces that are trusted.
"""

from dataclasses import replace

from cachefs.core.hints.asking import Question
from cachefs.core.names import DatasetName, printable
from cachefs.core.tenants import Tenants


def confined(asked: Question | None, tenants: Tenants) -> Question | None:
    """Return a question about what its tenant may ask; ``None`` if nothing is left of it."""
    if asked is None:
        return None
    foreign = foreign_to(asked, tenants)
    if not foreign:
        return asked
    own = tuple(each for each in asked.readings if each.dataset not in foreign)
    return replace(asked, readings=own) if own else None


def foreign_to(asked: Question, tenants: Tenants) -> tuple[DatasetName, ...]:
    """Return the datasets of a question about which its tenant may not ask."""
    if tenants.is_trusted(asked.tenant):
        return ()
    named = (each.dataset for each in asked.readings)
    return tuple(each for each in named if each.namespace != asked.tenant)


def why_without(foreign: tuple[DatasetName, ...], namespace: str) -> str:
    """Say to people why there is no hint about some datasets."""
    names = printable(", ".join(map(str, foreign)))
    return f"cachefs has no hint about {names}: of other namespaces than {namespace}, which is not trusted"
