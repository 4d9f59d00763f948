"""``cachefs policy``: what the system decides by itself, about pools and about idle datasets.

Policies are written in one YAML file, and set from there. What would be decided right now, and why, is
shown before (``set --dry-run``) and at any time (``plan``).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_json, print_table, say

if TYPE_CHECKING:
    from cachefs.cli.session import Session

app = typer.Typer(
    name="policy",
    help="Policies: pools that follow their load, idle datasets that make room.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_PATH = "/v1/policies"
_DOCUMENT_BYTES_MAX = 1024 * 1024


@app.command("set")
def set_policies(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Policies in YAML.")],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what they would decide right now.")
    ] = False,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Set the policies that a file names: all of them, or none if one makes no sense.

    Those that it does not name stay; `null` instead of a policy takes one away.
    """
    from cachefs.cli.session import Session

    document = _read(file)
    session = Session(state)
    if dry_run:
        _show_outlook(session.api.post(f"{_PATH}/plan", document), as_json=as_json)
        return
    _show(_patch(session, document), as_json=as_json)


@app.command("list")
def list_policies(state: options.State = None, as_json: options.Json = False) -> None:
    """Show all policies, in the form in which they are set."""
    from cachefs.cli.session import Session

    _show(Session(state).api.get(_PATH), as_json=as_json)


@app.command("plan")
def plan(state: options.State = None, as_json: options.Json = False) -> None:
    """Say what the policies decide right now, and why."""
    from cachefs.cli.session import Session

    _show_outlook(Session(state).api.post(f"{_PATH}/plan", {}), as_json=as_json)


@app.command("remove")
def remove_policy(
    *,
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="POOL", help="The policy of a pool.")
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option("--scope", metavar="DATASET|NAMESPACE|*", help="That of idle datasets."),
    ] = None,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Take a policy away; what it has done stays."""
    from cachefs.cli.session import Session
    from cachefs.errors import ConfigError, NotKnownError

    if (pool is None) == (scope is None):
        raise ConfigError("say which: --pool POOL, or --scope DATASET|NAMESPACE|*")
    section, name = ("pools", pool) if pool is not None else ("datasets", scope)
    session = Session(state)
    if name not in session.api.get(_PATH)[section]:
        raise NotKnownError(
            "no such policy", subject=str(name), hint="`cachefs policy list` shows all"
        )
    _show(_patch(session, {section: {name: None}}), as_json=as_json)


def _read(file: Path) -> dict[str, Any]:
    from cachefs.coordinator.elastic.forms import parse_change
    from cachefs.dataflow.spec.document import read_document
    from cachefs.errors import ConfigError

    try:
        text = file.read_bytes()[: _DOCUMENT_BYTES_MAX + 1]
    except OSError as error:
        raise ConfigError(
            f"the file cannot be read: {error.strerror}", subject=str(file)
        ) from error
    if len(text) > _DOCUMENT_BYTES_MAX:
        raise ConfigError("the file is too long to be policies", subject=str(file))
    document = read_document(text.decode(errors="replace"), file=str(file)).value
    parse_change(document)  # what is wrong is said without a system
    return dict(document) if isinstance(document, dict) else {}


def _patch(session: "Session", document: dict[str, Any]) -> dict[str, Any]:
    import json

    answer: dict[str, Any] = json.loads(session.api.fetch("PATCH", _PATH, document))
    return answer


def _show(policies: dict[str, Any], *, as_json: bool) -> None:
    import yaml

    if as_json:
        print_json(policies)
    elif any(policies.values()):
        typer.echo(yaml.safe_dump(policies, sort_keys=False, allow_unicode=True), nl=False)
    else:
        say("there are no policies")


def _show_outlook(found: dict[str, Any], *, as_json: bool) -> None:
    from cachefs.config.units import format_size

    if as_json:
        print_json(found)
        return
    rows = [
        (
            f"pool {each['pool']}",
            f"stays at {each['seen']['workers']}"
            if each["wanted"] is None
            else f"{each['seen']['workers']} → {each['wanted']} workers",
            each["why"],
        )
        for each in found["pools"]
    ]
    rows += [
        (each["dataset"], f"{each['action']} {format_size(each['bytes'])}", each["why"])
        for each in found["datasets"]
    ]
    if rows:
        print_table(("WHAT", "DECISION", "WHY"), rows)
    else:
        say("nothing is to be decided")
