"""Admitting: what a run finds when it is submitted: itself, others of its group, a full queue.

All of it happens in the transaction that stores the run, after the queue's counter was taken.
"""

from sqlalchemy import Connection

from cachefs.core.names import printable
from cachefs.core.tenants import Tenants
from cachefs.dataflow.engine import store as rows
from cachefs.dataflow.engine.queueing import Shares
from cachefs.dataflow.engine.store import RunEvent
from cachefs.dataflow.records import Run
from cachefs.dataflow.spec.lexer import ExpressionError
from cachefs.dataflow.spec.model import Flow
from cachefs.dataflow.spec.templates import render
from cachefs.errors import CapacityError, ConfigError, ConflictError


def group_of(flow: Flow, run: Run) -> str:
    """Return the concurrency group of a run; empty for none.

    Raises:
        ConfigError: Its name cannot be told.
    """
    if flow.concurrency is None:
        return ""
    names = {
        "params": run.params,
        "flow": {"name": flow.name, "namespace": flow.namespace},
        "trigger": run.trigger,
        "run": {"id": run.id, "cause": run.cause},
    }
    try:
        return f"{flow.namespace}/{render(flow.concurrency.group, names)}"
    except ExpressionError as error:
        raise ConfigError(str(error), subject="spec.concurrency.group") from error


def with_key(connection: Connection, run: Run) -> Run | None:
    """Return the run that was submitted with the same key.

    Raises:
        ConflictError: The key was used for something else.
    """
    if not run.key:
        return None
    found = rows.find_key(connection, run.flow, run.key)
    if found is not None and (found.document, found.params) != (run.document, run.params):
        raise ConflictError(
            f"the key was used for {found.id}, which is another flow or has other parameters",
            subject=printable(run.key),
        )
    return found


def admit(
    connection: Connection, flow: Flow, run: Run, *, queued_limit: int, tenants: Tenants
) -> None:
    """Let a run in; of a group whose policy is ``cancel``, have the others end.

    Raises:
        CapacityError: Too many runs wait, or too many of its namespace.
        ConflictError: Its group is busy, or one that it is within is of the group.
    """
    shares = Shares(queued_limit, tenants, rows.queued_counts(connection))
    if not shares.free(flow.namespace):
        raise CapacityError("too many runs wait already", subject=flow.full_name)
    if flow.concurrency is None:
        return
    others = rows.group_members(connection, run.group)
    _check_outer(connection, run, {one.id for one in others})
    if others and flow.concurrency.policy == "reject":
        raise ConflictError(
            f"{others[0].id} of the group {printable(run.group)} is not over",
            subject=run.flow,
            hint="wait for it, or cancel it",
        )
    if flow.concurrency.policy == "cancel":
        event = RunEvent(run.created_at, "run-cancel-asked", "", f"by its successor {run.id}")
        for other in others:
            if not other.ending and other.wants != "cancel":
                rows.ask(connection, other.id, [event], wants="cancel")


def _check_outer(connection: Connection, run: Run, group: set[str]) -> None:
    """Refuse what would wait for the end of a run that waits for its end."""
    outer = run.outer
    while outer:
        if outer in group:
            raise ConflictError(
                f"{outer} of the group {printable(run.group)} waits for it",
                subject=run.flow,
                hint="a flow within a flow needs another group than that one",
            )
        found = rows.find(connection, outer)
        outer = found.outer if found is not None else ""
