"""``cachefs hint``: ask where a job would be ready soonest.

Whoever asks is about to start a job, often from a script. So a coordinator that does not answer is no
failure: the command says why there is no opinion, prints the form that changes nothing, and succeeds.
"""

import shlex
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cachefs.cli import options
from cachefs.cli.rendering import print_json, say

Document = dict[str, Any]  # Any: a JSON document

_TIMEOUT_SECONDS = 5.0
"""Whoever submits a job waits for it; a coordinator needs some milliseconds."""
_TABLE, _JSON = "table", "json"
_TEXTS: dict[str, Callable[[Document], str]] = {
    "slurm": lambda rendering: shlex.join(rendering["arguments"]),
    "nomad": lambda rendering: str(rendering["hcl"]),
}
"""What is printed of forms that go into a command line or a file that is not JSON."""

Datasets = Annotated[
    list[str], typer.Argument(metavar="DATASET[@VERSION]…", help="What the job reads.")
]
Path = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="PATTERN", help="Only these files: *.safetensors."),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        metavar="[MODEL:]COUNT",
        help="Accelerators of each member: 8, H100:8, H100, A100:0.5 for half of one.",
    ),
]
Memory = Annotated[
    float | None, typer.Option("--gpu-memory", metavar="GIB", help="Of each accelerator, at least.")
]
Mig = Annotated[
    str | None, typer.Option("--mig", metavar="PROFILE", help="A slice of one: 1g.10gb.")
]
GangSize = Annotated[
    int | None, typer.Option("--gang", metavar="N", help="So many members start together.")
]
Least = Annotated[
    int | None, typer.Option("--least", metavar="N", help="So many of the gang are enough.")
]
Topology = Annotated[
    str | None,
    typer.Option(
        "--topology",
        metavar="LEVEL",
        help="What the gang should share: island, node, rack, zone, region; "
        "required:rack if it must.",
    ),
]
ByRank = Annotated[
    bool, typer.Option("--by-rank", help="Each member reads a share of the files of its own.")
]
Candidates = Annotated[
    list[str] | None,
    typer.Option("--candidates", metavar="NODE,…", help="Nodes to choose from; all without it."),
]
Selector = Annotated[
    list[str] | None, typer.Option("--selector", metavar="KEY=VALUE", help="A label of the node.")
]
Required = Annotated[
    bool, typer.Option("--required", help="Only nodes that hold some of each dataset.")
]
LoaderOption = Annotated[
    str,
    typer.Option(
        "--loader",
        metavar="HOW",
        help="pipelined, serial, or lazy:0.2 if a fifth is enough to begin.",
    ),
]
Image = Annotated[str | None, typer.Option("--image", metavar="NAME", help="The container image.")]
ImageSize = Annotated[
    str, typer.Option("--image-size", metavar="SIZE", help="If it must be pulled: 8GiB.")
]
Deadline = Annotated[
    str | None, typer.Option("--deadline", metavar="TIME", help="Ready by then: 30s, 5m.")
]
RunsFor = Annotated[
    str | None, typer.Option("--runs-for", metavar="TIME", help="How long the job runs.")
]
MaxStaleness = Annotated[
    str | None,
    typer.Option("--max-staleness", metavar="TIME", help="Say so if a node is known less well."),
]
Reserve = Annotated[
    str | None, typer.Option("--reserve", metavar="TIME", help="Keep the best place so long.")
]
Prefetch = Annotated[
    bool, typer.Option("--prefetch", help="Begin to bring what the best node lacks.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Answer only: keep, reserve and begin nothing.")
]
Job = Annotated[str, typer.Option("--job", metavar="ID", help="Shown with what is kept.")]
Tenant = Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose job it is.")]
Limit = Annotated[
    int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="Nodes in the answer.")
]
Form = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORM",
        help="table, json, or what a scheduler takes: slurm (options for sbatch), nomad (HCL), "
        "or as JSON node_affinity, extender, volcano, kueue, kai, ray, backendai.",
    ),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Show how the seconds come about, and who is refused.")
]


def ask(
    datasets: Datasets,
    *,
    path: Path = None,
    gpu: Gpu = None,
    gpu_memory: Memory = None,
    mig: Mig = None,
    gang: GangSize = None,
    least: Least = None,
    topology: Topology = None,
    by_rank: ByRank = False,
    candidates: Candidates = None,
    selector: Selector = None,
    required: Required = False,
    loader: LoaderOption = "pipelined",
    image: Image = None,
    image_size: ImageSize = "0",
    deadline: Deadline = None,
    runs_for: RunsFor = None,
    max_staleness: MaxStaleness = None,
    reserve: Reserve = None,
    prefetch: Prefetch = False,
    dry_run: DryRun = False,
    job: Job = "",
    tenant: Tenant = "",
    limit: Limit = 32,
    form: Form = _TABLE,
    explain: Explain = False,
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Say on which node a job that reads datasets would be ready soonest, and why.

    The exit code is 0 without an opinion, too: a hint is advice. --json prints the whole answer,
    as POST /v1/hints gives it.
    """
    from cachefs.cli.hinting.questions import gang_of, gpu_of, labels_of, loader_of, readings_of
    from cachefs.cli.hinting.questions import seconds_of as seconds
    from cachefs.config.units import parse_size

    form = _JSON if as_json else _known(form)
    question: Document = {
        "job_id": job,
        "tenant": tenant,
        "datasets": readings_of(datasets, path or [], by_rank=by_rank, required=required),
        "gang": gang_of(gang, least, topology),
        "gpu": gpu_of(gpu, gpu_memory, mig),
        "image": None if image is None else {"name": image, "bytes": parse_size(image_size)},
        "candidates": [one for text in candidates or [] for one in text.split(",") if one],
        "selector": labels_of(selector or []),
        "loader": loader_of(loader),
        "deadline_s": seconds(deadline),
        "expected_duration_s": seconds(runs_for),
        "max_staleness_s": seconds(max_staleness),
        "reserve": None if reserve is None else {"ttl_s": seconds(reserve)},
        "limit": limit,
        "explain": explain,
        "prefetch": prefetch,
        "dry_run": dry_run,
        "renderings": None if form == _JSON else [] if form == _TABLE else [form],
    }
    answer = _answer(state, question)
    _show(answer, question, form, explain=explain)


def _answer(state: options.State, question: Document) -> Document:
    """Ask, or return what an answer without an opinion looks like."""
    from cachefs.cli.hinting.questions import no_opinion
    from cachefs.cli.session import Session
    from cachefs.errors import CacheFSError, ConfigError, DeniedError

    try:
        found: Document = Session(state).api.post(
            "/v1/hints", question, timeout_seconds=_TIMEOUT_SECONDS
        )
    except (ConfigError, DeniedError):
        raise  # whoever asks can mend that
    except CacheFSError as error:
        return no_opinion(question, str(error))
    return found


def _show(answer: Document, question: Document, form: str, *, explain: bool) -> None:
    from cachefs.cli.hinting.showing import print_answer

    if form == _JSON:
        print_json(answer)
        return
    if form == _TABLE:
        print_answer(answer, question, explain=explain)
        return
    if not answer["nodes"]:
        say(f"no opinion: {answer['degraded'] or 'no node could take the job'}")
    rendering = answer["renderings"][form]
    if form in _TEXTS:
        print(_TEXTS[form](rendering))
    else:
        print_json(rendering)


def _known(form: str) -> str:
    from cachefs.errors import ConfigError
    from cachefs.hints.renderings import RENDERINGS

    known = (_TABLE, _JSON, *RENDERINGS)
    if form not in known:
        raise ConfigError(f"no form {form!r}", hint="forms are " + ", ".join(known))
    return form
