"""``cachefs explain``: where each block of a file is, and where reads of it came from."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_facts, print_json, print_table

Block = Mapping[str, Any]  # Any: a JSON document


def explain(
    reference: Annotated[
        str, typer.Argument(metavar="NAME[@VERSION]/PATH", help="A file of a dataset.")
    ],
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Show where each block of a file is, who owns it, and where reads of it came from."""
    from cachefs.cli.session import Session
    from cachefs.core.names import printable
    from cachefs.errors import ConfigError
    from cachefs.transport.api import pages

    session = Session(state)
    named = session.find(reference)
    if not named.path:
        raise ConfigError(
            "is a dataset, not a file",
            subject=printable(reference),
            hint=f"`cachefs ls {printable(reference)}` lists its files",
        )
    session.check_paths(named, [named.path])
    query = {"dataset": str(named.dataset), "path": named.path}
    if named.version:
        query["version"] = named.version
    answer, *others = pages(session.api.get, "/v1/explain", following="first", query=query)
    for more in others:
        answer["blocks"] += more["blocks"]
    del answer["next"]
    if as_json:
        print_json(answer)
        return
    print_facts(_facts(answer))
    print()
    headings = ("BLOCKS", "SIZE>", "OWNERS", "HOLDERS", "DIGEST")
    print_table(headings, _rows(answer["blocks"]))


def _facts(answer: Mapping[str, Any]) -> Iterator[tuple[str, object]]:  # Any: a JSON document
    from cachefs.config.units import format_size

    here = sum(1 for block in answer["blocks"] if block["holders"])
    yield "file", answer["path"]
    yield "size", format_size(answer["size"])
    yield "version", answer["version"]
    yield "file version", answer["file_version"]
    yield "origin", answer["origin"]["url"]
    yield "client", f"{answer['client']}: {answer['client_reason']}"
    yield "digest", answer["digest"] or "not known beforehand; each block's is taken at its fill"
    yield "resident", f"{here} of {answer['blocks_total']} blocks"
    yield "served from", _by_source(answer["served_bytes"])
    yield "filled from", _by_source(answer["filled_bytes"])
    if answer["unreachable"]:
        yield "not counted", f"{', '.join(answer['unreachable'])} did not answer"


def _by_source(counts: Mapping[str, int]) -> str:
    from cachefs.config.units import format_size

    parts = (f"{source} {format_size(size)}" for source, size in sorted(counts.items()) if size)
    return ", ".join(parts) or "-"


def _rows(blocks: list[Block]) -> Iterator[tuple[object, ...]]:
    """Yield a row for each run of neighbouring blocks that are alike."""
    from itertools import groupby

    from cachefs.config.units import format_size

    def place(block: Block) -> tuple[str, str, str]:
        owners = ", ".join(block["owners"]) or "nobody"
        holders = ", ".join(f"{each['worker']} ({each['tier']})" for each in block["holders"])
        return owners, holders or "-", "known" if block["digest_known"] else "-"

    for (owners, holders, digest), run in groupby(blocks, key=place):
        alike = list(run)
        first, last = alike[0]["index"], alike[-1]["index"]
        size = sum(block["bytes"] for block in alike)
        number = str(first) if first == last else f"{first}-{last}"
        yield number, format_size(size), owners, holders, digest
