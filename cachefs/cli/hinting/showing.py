"""A hint for people: a table of nodes, the gang, the wait, and what would be done."""

from typing import Any

from cachefs.cli.rendering import print_facts, print_table, say
from cachefs.config.units import format_duration, format_size

Document = dict[str, Any]  # Any: a JSON document

_HEADINGS = ("RANK>", "NODE", "READY IN>", "90 %>", "CACHED>", "BOTTLENECK", "WHY")
_VERSION_DIGITS = 12
_ACTIONS_SHOWN = 4
_PARTS = (
    ("slot_s", "SLOT>"),
    ("image_s", "IMAGE>"),
    ("data_s", "DATA>"),
    ("load_s", "LOAD>"),
    ("init_s", "START>"),
)
_FROM = {
    "gpu": "in the accelerator",
    "dram": "in memory",
    "nvme": "on disk",
    "inflight": "on the way",
    "peer_rack": "in the rack",
    "peer_zone": "in the zone",
    "peer_remote": "in other zones",
    "origin": "from the origin",
}
"""What is said of bytes by where they are; the nearest first."""


def print_answer(answer: Document, question: Document, *, explain: bool) -> None:
    """Print a hint: the result to standard output, what is to be said about it to standard error."""
    if not answer["nodes"]:
        say(f"no opinion: {answer['degraded'] or 'no node can take the job'}")
    else:
        if answer["degraded"]:
            say(f"note: {answer['degraded']}")
        _print_nodes(answer["nodes"], question["deadline_s"], explain=explain)
    _print_more(answer)
    if answer["refused"] and (explain or not answer["nodes"]):
        print()
        print_table(("REFUSED", "WHY"), sorted(answer["refused"].items()))


def _print_nodes(nodes: list[Document], deadline: float | None, *, explain: bool) -> None:
    headings: tuple[str, ...] = _HEADINGS
    if explain:
        headings = (*_HEADINGS[:5], *(name for _, name in _PARTS), "SURE>", *_HEADINGS[5:])
    print_table(headings, [_row(node, deadline, explain=explain) for node in nodes])


def _row(node: Document, deadline: float | None, *, explain: bool) -> tuple[str, ...]:
    ready, parts = node["ready_s"], node["breakdown"]
    row: tuple[str, ...] = (
        str(node["rank"]),
        node["node"],
        format_duration(ready["p50"]),
        format_duration(ready["p90"]),
        f"{cached(node['bytes']):.0%}",
    )
    if explain:
        row += tuple(format_duration(parts[name]) if parts[name] else "" for name, _ in _PARTS)
        row += (f"{node['confidence']:.0%}",)
    return (*row, parts["bottleneck"], why(node, deadline))


def cached(sizes: Document) -> float:
    """Return the share of a job's bytes that a node holds; all of nothing."""
    held: float = sizes["gpu"] + sizes["dram"] + sizes["nvme"]
    return held / sizes["total"] if sizes["total"] else 1.0


def why(node: Document, deadline: float | None) -> str:
    """Say in a line how the seconds of a node come about."""
    told = []
    if deadline is not None and node["ready_s"]["p50"] > deadline:
        told.append(f"too late for {format_duration(deadline)}")
    if node["breakdown"]["slot_s"]:
        told.append(node["fits"]["reason"] or "no accelerator is free yet")
    sizes = node["bytes"]
    told += [f"{format_size(sizes[kind])} {where}" for kind, where in _FROM.items() if sizes[kind]]
    if not sizes["total"]:
        told.append("nothing is to be read")
    if node["breakdown"]["init_s"]:
        told.append(f"{format_duration(node['breakdown']['init_s'])} to start")
    return "; ".join(told)


def _print_more(answer: Document) -> None:
    """Print what else a hint says, if anything."""
    facts: list[tuple[str, object]] = []
    gang, wait = answer["gang"], answer["wait"]
    if gang is not None:
        ready = format_duration(gang["ready_s"]["p50"])
        facts.append(
            ("gang", f"{gang['domain']}, ready in {ready}, waits for {gang['bottleneck']}")
        )
        facts.append(("members", _members(gang["assignment"])))
    if wait["worth_waiting"]:
        free, ready = format_duration(wait["free_in_s"]), format_duration(wait["ready_s"])
        told = f"{wait['node']} is free in {free} and ready in {ready}, sooner than any free node"
        kept_as = f"{wait['reservation_token']} until {wait['expires_at']}"
        facts.append(("wait", f"{told}; kept as {kept_as}"))
    kept = answer["reservation"]
    if kept is not None:
        facts.append(("kept", f"{kept['token']} until {kept['expires_at']}"))
    facts += [("prefetch", told) for told in _prefetches(answer["actions"])]
    if answer["hint_id"]:
        facts.append(("hint", answer["hint_id"]))
    if facts:
        print()
        print_facts(facts)


def _members(assignment: dict[str, str]) -> str:
    """Return the nodes of a gang with the ranks that they have."""
    ranks: dict[str, list[int]] = {}
    for rank, node in assignment.items():
        ranks.setdefault(node, []).append(int(rank))
    return "; ".join(f"{node}: {_spans(sorted(found))}" for node, found in ranks.items())


def _spans(numbers: list[int]) -> str:
    """Return numbers in short: ``0-3, 7``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _prefetches(actions: list[Document]) -> list[str]:
    """Return a line for each of few actions, or one for all of many."""
    if len(actions) <= _ACTIONS_SHOWN:
        return [_action(action) for action in actions]
    size = format_size(sum(action["bytes"] for action in actions))
    begun = sum(bool(action["job"]) for action in actions)
    nodes = len({action["node"] for action in actions})
    told = f"{begun} of {len(actions)} have begun" if begun else "--prefetch begins it"
    return [f"{size} to {nodes} nodes; {told}"]


def _action(action: Document) -> str:
    dataset, _, version = action["dataset"].partition("@")
    named = f"{dataset}@{version[:_VERSION_DIGITS]}"
    what = f"{format_size(action['bytes'])} of {named} to {action['node']}"
    if action["job"]:
        return f"{what} has begun, warm-up {action['job']}"
    return f"{what}, {format_duration(action['seconds'])}; --prefetch begins it"
