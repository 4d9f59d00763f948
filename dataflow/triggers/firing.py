"""Firing: look once a second what registered flows wait for, and submit runs.

Each cause has a key of its own (a minute, a version of a dataset, a webhook's ``Idempotency-Key``), and a
run is submitted once for a key. So it does no harm that all coordinators look, or that one dies between
submitting a run and noting that it did: who looks next finds the run. What was due several times while
nobody looked, by one timetable, is started once. A flow that cannot be started (its document became
invalid, its queue is full) is told in the coordinator's events and not tried again for the same cause.

All flows are looked at by one thread, one after the other. Whatever one of them meets, its secret that
cannot be read or a bug, is logged, and the next one's turn comes.
"""

import logging
from collections.abc import Mapping

from cachefs.config.secrets import Secret
from cachefs.coordinator.events import Events
from cachefs.coordinator.store.engine import Store
from cachefs.core.cron import Cron
from cachefs.core.cron import parse as parse_cron
from cachefs.core.names import DatasetName
from cachefs.core.tenants import Tenants
from cachefs.dataflow.engine.answers import Submitted
from cachefs.dataflow.engine.service import FlowService
from cachefs.dataflow.spec.lexer import ExpressionError
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.spec.templates import render
from cachefs.dataflow.triggers import store as rows
from cachefs.dataflow.triggers.registering import Register, check_trigger, digest_of
from cachefs.dataflow.triggers.store import Registered, TriggerRow
from cachefs.dataflow.triggers.tokens import read_webhook_secret
from cachefs.errors import CacheFSError, ConfigError
from cachefs.ports import Closing, Runtime
from cachefs.transport.rounds import Rounds

_LOG = logging.getLogger("cachefs.flows")

LOOK_SECONDS = 1.0
"""How long after its cause a run is submitted, at most."""
_VERSIONS_AT_ONCE = 100
_MISSED_MAX = 10_000
"""Times of a timetable that are looked through for the last that was missed."""
HOOKS = "/v1/hooks/"


class Triggers(Closing):
    """Starts the runs of registered flows. The owner closes it."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        service: FlowService,
        register: Register,
        *,
        events: Events,
        environment: Mapping[str, str],
        tenants: Tenants,
    ) -> None:
        """Look at nothing yet.

        Args:
            store: Where flows are registered.
            runtime: The clock.
            service: Submits runs.
            register: The flows.
            events: Of the coordinator: is told what could not be started.
            environment: Where ``env:NAME`` of a webhook's secret is looked up.
            tenants: Say what a flow of a namespace may wait for.
        """
        self._store = store
        self._runtime = runtime
        self._service = service
        self._register = register
        self._events = events
        self._environment = environment
        self._tenants = tenants
        self._rounds = Rounds(runtime, "flows-triggers", self.tick, every_seconds=LOOK_SECONDS)
        self._crons: dict[str, Cron] = {}
        self._denied: frozenset[tuple[str, int]] = frozenset()
        """Triggers, by flow and number, that are not for their namespace; said once in the log."""
        self._tokens: Mapping[str, tuple[str, ...]] = {}
        """Of each flow with webhooks: digests of the tokens that start it."""

    def start(self) -> None:
        """Begin to look."""
        self._rounds.look()  # so that webhooks are known from the beginning
        self._rounds.start()

    def close(self) -> None:
        """End looking."""
        self._rounds.close(wait_seconds=10.0)

    def tick(self) -> None:
        """Submit all runs whose cause has come.

        Raises:
            CoordinatorUnavailableError: The store does not answer; the next tick finds the same.
        """
        with self._store.read() as connection:
            found = rows.triggers(connection)
        tokens: dict[str, tuple[str, ...]] = {}
        denied = self._deny(found)
        for row in found:
            if (row.flow, row.number) in denied:
                continue
            try:
                if row.kind == "cron":
                    self._look_at_clock(row)
                elif row.kind == "event":
                    self._look_at_versions(row)
                else:
                    tokens[row.flow] = (*tokens.get(row.flow, ()), self._digest_of(row))
            except CacheFSError as error:
                # It may pass; and what one flow meets must not keep the others from beginning.
                extra = {"flow": row.flow, "failure": str(error)}
                _LOG.warning("a flow could not be started now", extra=extra)
            except Exception:  # noqa: BLE001 - the boundary between one flow and the others
                _LOG.exception("a flow's trigger met a bug", extra={"flow": row.flow})
        self._tokens = tokens

    def _deny(self, found: tuple[TriggerRow, ...]) -> frozenset[tuple[str, int]]:
        """Return which triggers are not for their namespace, perhaps no longer."""
        denied: set[tuple[str, int]] = set()
        for row in found:
            try:
                check_trigger(self._tenants, row.flow.partition("/")[0], row.spec)
            except CacheFSError as error:
                denied.add((row.flow, row.number))
                if (row.flow, row.number) not in self._denied:
                    extra = {"flow": row.flow, "failure": str(error)}
                    _LOG.warning("a trigger is not for its flow's namespace", extra=extra)
        self._denied = frozenset(denied)
        return self._denied

    def _look_at_clock(self, row: TriggerRow) -> None:
        text = str(row.spec["cron"])
        cron = self._crons.get(text) or self._crons.setdefault(text, parse_cron(text))
        now = self._runtime.wall()
        due = at = cron.next_after(row.position)
        for _ in range(_MISSED_MAX):
            if at > now:
                break
            due, at = at, cron.next_after(at)
        if due <= now:
            self._fire(row, f"cron {int(due)}", {"at": due}, position=int(due))

    def _look_at_versions(self, row: TriggerRow) -> None:
        dataset = DatasetName.parse(str(row.spec["dataset"]))
        with self._store.read() as connection:
            found = rows.versions_after(connection, dataset, row.position, limit=_VERSIONS_AT_ONCE)
        for version in found:
            trigger = {"dataset": str(dataset), "version": version.id}
            self._fire(row, f"event {dataset}@{version.id}", trigger, position=version.number)

    def _fire(
        self, row: TriggerRow, cause: str, trigger: Mapping[str, Value], *, position: int
    ) -> None:
        flow = self._register.get(row.flow)
        try:
            self._submit(flow, row, cause, trigger, key=cause)
        except CacheFSError as error:
            if error.retryable:
                raise
            with self._store.write() as connection:
                self._events.record(connection, "flow-not-started", row.flow, f"{cause}: {error}")
        with self._store.write() as connection:
            rows.move(connection, row, position)

    def _submit(
        self,
        flow: Registered,
        row: TriggerRow,
        cause: str,
        trigger: Mapping[str, Value],
        *,
        key: str,
    ) -> Submitted:
        names = {"params": flow.params, "trigger": trigger}
        try:
            given = render(dict(row.spec.get("params") or {}), names)
        except ExpressionError as error:
            raise ConfigError(str(error), subject=f"{flow.name}: params of a trigger") from error
        return self._service.submit(
            flow.document,
            {**flow.params, **given},
            key=key,
            cause=cause,
            trigger=trigger,
            file=flow.name,
        )

    # ---- webhooks -----------------------------------------------------------------------------

    def admits(self, path: str, token: str) -> bool:
        """Say whether a token is that of the webhook at a path."""
        known = self._tokens.get(path.removeprefix(HOOKS)) if path.startswith(HOOKS) else None
        digest = Secret(digest_of(token))
        return any(digest.matches(one) for one in known or ())

    def call(self, name: str, body: Value, *, key: str) -> Submitted:
        """Start a run because a webhook was called.

        Args:
            name: The flow.
            body: What the caller sent, for expressions: ``trigger.body``.
            key: Of idempotency; empty if each call is another.

        Raises:
            NotKnownError: No such flow is registered, or it has no webhook.
            CacheFSError: The run could not be submitted.
        """
        flow = self._register.get(name)
        row = next((one for one in flow.triggers if one.kind == "webhook"), None)
        if row is None:
            raise ConfigError("the flow has no webhook", subject=name)
        return self._submit(
            flow, row, "webhook", {"body": body}, key=f"webhook {key}" if key else ""
        )

    def _digest_of(self, row: TriggerRow) -> str:
        """Return the digest of the token that starts a webhook's flow."""
        secret = str(row.spec.get("secret") or "")
        if not secret:
            return str(row.spec["digest"])
        return digest_of(read_webhook_secret(secret, self._environment))
