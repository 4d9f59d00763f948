"""A question from what was typed: ``H100:8``, ``required:rack``, ``lazy:0.2``."""

from collections.abc import Sequence
from typing import Any

from cachefs.config.units import parse_duration
from cachefs.errors import ConfigError

Document = dict[str, Any]  # Any: a JSON document


def readings_of(
    names: Sequence[str], patterns: Sequence[str], *, by_rank: bool, required: bool
) -> list[Document]:
    """Return what is read of each dataset; names are checked, and need not exist.

    Raises:
        ConfigError: A name cannot be one.
    """
    from cachefs.core.hints.asking import dataset_named

    found = []
    for name in names:
        dataset, version = dataset_named(name)
        found.append(
            {
                "name": str(dataset),
                "revision": version,
                "paths": list(patterns),
                "shard": "rank" if by_rank else None,
                "affinity": "required" if required else "preferred",
            }
        )
    return found


def gpu_of(text: str | None, memory_gib: float | None, mig: str | None) -> Document | None:
    """Return what is wanted of accelerators: ``8``, ``H100``, ``H100:8``, ``A100:0.5``.

    Raises:
        ConfigError: It is not written so.
    """
    if text is None and memory_gib is None and mig is None:
        return None
    model, colon, number = (text or "").rpartition(":")
    if not colon and not number.replace(".", "", 1).isdigit():
        model, number = number, ""
    try:
        count = float(number or 1)
    except ValueError:
        count = -1.0
    is_word = text is None or text[:1].isalnum()
    if not is_word or count < 0 or (count > 1 and count != int(count)):
        raise ConfigError(
            f"not a number of accelerators: {text!r}", hint="8, H100, H100:8, A100:0.5"
        )
    is_part = 0 < count < 1
    return {
        "count": 1 if is_part else int(count),
        "fraction": count if is_part else None,
        "model": model or None,
        "memory_gib": memory_gib,
        "mig_profile": mig,
    }


def gang_of(size: int | None, least: int | None, topology: str | None) -> Document | None:
    """Return who starts together.

    Raises:
        ConfigError: There is no such level of topology, or no gang.
    """
    if size is None:
        if least is not None or topology is not None:
            raise ConfigError("--least and --topology are of a gang", hint="give --gang N, too")
        return None
    return {"size": size, "min_available": least, "topology": topology_of(topology)}


def topology_of(text: str | None) -> Document:
    """Return what a gang should share, or must: ``rack``, ``required:rack``.

    Raises:
        ConfigError: There is no such level.
    """
    from cachefs.core.hints.asking import LEVELS

    if text is None:
        return {}
    how, colon, level = text.rpartition(":")
    how = how if colon else "preferred"
    if how not in ("preferred", "required") or level not in LEVELS:
        raise ConfigError(
            f"not a level of topology: {text!r}",
            hint=f"one of {', '.join(LEVELS)}; required:{LEVELS[2]} if it must be",
        )
    return {how: level}


def loader_of(text: str) -> Document:
    """Return how a job reads: ``pipelined``, ``serial``, ``lazy:0.2``.

    Raises:
        ConfigError: It is not written so.
    """
    from cachefs.core.hints.asking import LoaderMode

    mode, colon, part = text.partition(":")
    try:
        fraction = float(part) if colon else 1.0
        known = LoaderMode(mode)
    except ValueError:
        raise ConfigError(
            f"not a way of loading: {text!r}", hint="pipelined, serial, or lazy:0.2"
        ) from None
    return {"mode": str(known), "required_fraction": fraction}


def labels_of(texts: Sequence[str]) -> dict[str, str]:
    """Return labels that a node must have: ``KEY=VALUE``.

    Raises:
        ConfigError: One is not written so.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise ConfigError("a label is KEY=VALUE", subject=text)
        found[key] = value
    return found


def seconds_of(text: str | None) -> float | None:
    """Return a duration in seconds, ``None`` for none.

    Raises:
        ConfigError: It is not one.
    """
    return None if text is None else parse_duration(text)


def no_opinion(question: Document, reason: str) -> Document:
    """Return the answer of nobody, with the renderings that change nothing."""
    from cachefs.core.hints.answer import Hint
    from cachefs.hints.bodies import HintBody
    from cachefs.hints.presenting import renderings_of
    from cachefs.hints.questions import QuestionBody

    asked = QuestionBody.model_validate(question)
    empty = Hint(id="", generated_at=0.0, valid_until=0.0, epoch=0, degraded=reason)
    rendered = renderings_of(empty, asked.value(), asked.renderings)
    return HintBody.of(empty, rendered).model_dump(mode="json")
