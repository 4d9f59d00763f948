"""Slurm: features of nodes that say who holds a dataset, and ``--prefer`` for jobs that read it.

A node has the feature ``cf_<dataset>_warm`` if it holds or awaits some of a dataset, and
``cf_<dataset>_hot`` as well if it holds nearly all of it; ``<dataset>`` is a digest of the name, since
features are short words. A job prefers hot nodes where there are enough for it, else warm ones, else
none: a preference that cannot be met by as many nodes as the job has is none to Slurm. A strong
affinity is ``--constraint`` with the warm feature, so no parentheses are ever needed.

Features are set with ``scontrol update`` (:func:`updates`) for each dataset by itself, and are lost when
``slurmctld`` starts anew, so they are published again and again. Features of others are kept: they
are read first, and a node whose features cannot be read is left alone.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Affinity, Question
from cachefs.core.names import DatasetName
from cachefs.hints.renderings.scales import binds, holds_some, seconds_of

HOT = 0.95
"""The share of a dataset that a hot node holds: what is left is read in no time that matters."""
_OURS = re.compile(r"cf_[0-9a-f]{8}_(hot|warm)", re.ASCII)
_NODE = re.compile(r"NodeName=(\S+)")
_FEATURES = re.compile(r"\b(AvailableFeatures|ActiveFeatures)=(\S+)")
_NO_FEATURES = "(null)"
_NODES_PER_COMMAND = 100
"""Names in one ``scontrol update``: a command line of some kilobytes."""


def feature(dataset: DatasetName, degree: str) -> str:
    """Return the feature of nodes that hold a dataset to a degree, ``hot`` or ``warm``."""
    full = f"{dataset.namespace}/{dataset.name}"
    return f"cf_{hashlib.sha256(full.encode()).hexdigest()[:8]}_{degree}"


def slurm(hint: Hint, question: Question) -> dict[str, Any]:
    """Return options for ``sbatch``, and the features that they need to be published.

    ``arguments`` are the options, ready for a command line; ``features`` are those of each node, of
    questions about one dataset only, as nobody knows which of several a node holds.
    """
    datasets = list(dict.fromkeys(each.dataset for each in question.readings))
    degree = _degree(hint, nodes=len(set(hint.gang.assignment)) if hint.gang is not None else 1)
    prefer = "&".join(feature(each, degree) for each in datasets) if degree else ""
    required = [each.dataset for each in question.readings if each.affinity is Affinity.REQUIRED]
    binding = binds(hint, question)
    constraint = "&".join(feature(each, "warm") for each in required) if binding else ""
    exclude = _too_late(hint, question)
    options = {"prefer": prefer, "constraint": constraint, "exclude": ",".join(exclude)}
    return {
        **options,
        "arguments": [f"--{name}={value}" for name, value in options.items() if value],
        "features": _features(hint, datasets[0]) if len(datasets) == 1 else {},
    }


def _degree(hint: Hint, *, nodes: int) -> str:
    """Return the degree to which so many nodes at least hold the data; empty for none."""
    holders = [each for each in hint.nodes if holds_some(each)]
    if sum(each.cached >= HOT for each in holders) >= nodes:
        return "hot"
    return "warm" if len(holders) >= nodes else ""


def _features(hint: Hint, dataset: DatasetName) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in hint.nodes:
        if holds_some(each):
            degrees = ("hot", "warm") if each.cached >= HOT else ("warm",)
            found[each.node] = [feature(dataset, degree) for degree in degrees]
    return found


def _too_late(hint: Hint, question: Question) -> list[str]:
    """Return the nodes that would miss the deadline; none if all would."""
    deadline, seconds = question.deadline_seconds, seconds_of(hint)
    if deadline is None:
        return []
    late = sorted(node for node, each in seconds.items() if each > deadline)
    return late if len(late) < len(seconds) else []


@dataclass(frozen=True, slots=True)
class NodeFeatures:
    """The features of one node, as Slurm knows them."""

    available: tuple[str, ...] = ()
    active: tuple[str, ...] = ()


def parse_nodes(text: str) -> dict[str, NodeFeatures]:
    """Return the features of all nodes in the output of ``scontrol --oneliner show nodes``."""
    found = {}
    for line in text.splitlines():
        name = _NODE.search(line)
        if name is None:
            continue
        words = dict(_FEATURES.findall(line))
        found[name[1]] = NodeFeatures(
            _words(words.get("AvailableFeatures", "")), _words(words.get("ActiveFeatures", ""))
        )
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word) if text != _NO_FEATURES else ()


def updates(
    known: Mapping[str, NodeFeatures], wanted: Mapping[str, Iterable[str]]
) -> list[list[str]]:
    """Return the commands that publish features: nodes that shall have the same share a command.

    Args:
        known: All of Slurm's nodes. Others are not named to it: one it does not know fails all.
        wanted: Our features of each node, of all datasets; a node that is absent shall have none.
    """
    changed: dict[NodeFeatures, list[str]] = {}
    for node, has in known.items():
        ours = tuple(sorted(set(wanted.get(node, ()))))
        shall = NodeFeatures(_foreign(has.available) + ours, _foreign(has.active) + ours)
        if (set(shall.available), set(shall.active)) != (set(has.available), set(has.active)):
            changed.setdefault(shall, []).append(node)
    commands = []
    for shall, nodes in changed.items():
        for first in range(0, len(nodes), _NODES_PER_COMMAND):
            some = ",".join(nodes[first : first + _NODES_PER_COMMAND])
            commands.append(
                [
                    "scontrol",
                    "update",
                    f"NodeName={some}",
                    f"AvailableFeatures={','.join(shall.available)}",
                    f"ActiveFeatures={','.join(shall.active)}",
                ]
            )
    return commands


def _foreign(features: Iterable[str]) -> tuple[str, ...]:
    return tuple(each for each in features if not _OURS.fullmatch(each))


def table(features: Mapping[str, Mapping[str, Iterable[str]]]) -> str:
    """Return what a ``job_submit`` script reads: a line ``dataset feature nodes`` for each of our features.

    Args:
        features: Of each node, by the dataset's name as jobs write it. A dataset's line for the hot
            nodes comes before that for the warm ones, and one that no node has is left out.
    """
    lines = []
    for dataset, by_node in sorted(features.items()):
        counts = Counter(each for words in by_node.values() for each in words)
        lines += [f"{dataset} {each} {count}\n" for each, count in sorted(counts.items())]
    return "".join(lines)
