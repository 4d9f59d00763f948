"""From what the service answers to the bodies that both doors show, renderings included."""

from collections.abc import Sequence
from typing import Any

from cachefs.core.hints.answer import Hint
from cachefs.core.hints.asking import Question
from cachefs.core.names import printable
from cachefs.errors import ConfigError
from cachefs.hints.bodies import HintBody, LearnedBody, LineHintsBody, ReservationBody, moment
from cachefs.hints.keeping import KeptPlace
from cachefs.hints.outcomes import Learned
from cachefs.hints.questions import LineBody, OutcomeBody
from cachefs.hints.renderings import RENDERINGS
from cachefs.hints.service import HintService


def check_renderings(names: Sequence[str] | None) -> None:
    """Check that there are forms of these names.

    Raises:
        ConfigError: One is unknown.
    """
    unknown = sorted(set(names or ()) - RENDERINGS.keys())
    if unknown:
        raise ConfigError(
            "no such rendering", subject=printable(unknown[0]), hint=", ".join(RENDERINGS)
        )


def renderings_of(
    hint: Hint, question: Question, names: Sequence[str] | None
) -> dict[str, Any]:  # Any: each scheduler's own form
    """Return a hint in the forms that schedulers take; in all of them for no names."""
    chosen = RENDERINGS if names is None else dict.fromkeys(names)
    return {name: RENDERINGS[name](hint, question) for name in chosen}


def hint_body(
    hint: Hint,
    question: Question,
    kept: KeptPlace | None,
    *,
    names: Sequence[str] | None,
) -> HintBody:
    """Return the body of a hint, with the renderings of these names; with all of them for ``None``."""
    return HintBody.of(
        hint,
        renderings_of(hint, question, names),
        None if kept is None else reservation_body(kept),
    )


def line_body(service: HintService, body: LineBody) -> LineHintsBody:
    """Return the answers for a line.

    Raises:
        ConfigError: Something in the question makes no sense.
    """
    line = body.value()
    names = [job.renderings for job in body.jobs]
    for each in names:
        check_renderings(each)
    hints = service.answer_line(line)
    kept = {place.token: place for place in service.reservations()}
    told = zip(hints, line.questions, names, strict=True)
    return LineHintsBody.model_construct(
        hints=[
            hint_body(hint, question, kept.get(hint.token), names=chosen)
            for hint, question, chosen in told
        ]
    )


def reservation_body(kept: KeptPlace) -> ReservationBody:
    """Return the body of a place that is kept."""
    return ReservationBody(
        token=kept.token,
        nodes=list(kept.nodes),
        job_id=kept.job,
        expires_at=moment(kept.expires_at),
    )


def told(service: HintService, hint: str, body: OutcomeBody) -> Learned:
    """Tell an outcome.

    Raises:
        NotKnownError: There is no such hint, or it says nothing of the node.
        ConfigError: There is no such phase.
    """
    recalled = None if body.recalled is None else body.recalled.value()
    return service.outcome(hint, body.node, body.ready_s, body.phases, recalled=recalled)


def learned_body(learned: Learned) -> LearnedBody:
    """Return the body of what an outcome was compared with."""
    return LearnedBody(
        node=learned.node,
        estimated_s=learned.estimated_seconds,
        actual_s=learned.actual_seconds,
        bottleneck=learned.bottleneck,
        error_ratio=learned.error_ratio,
    )
