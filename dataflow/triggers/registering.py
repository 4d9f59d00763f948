"""Registering: which flows are started by something other than a person.

A registered flow keeps its document and its parameters, as a run does. Registered again under its name,
it is replaced; a trigger that is the same as before goes on from where it was, so that nothing that came
in between is missed, and a webhook keeps its token. What a namespace may wait for that is not trusted is
looked at here, and once more by who fires: tenants may have been narrowed since.
"""

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cachefs.coordinator.store.engine import Store
from cachefs.core.names import DatasetName, printable
from cachefs.core.tenants import Tenants
from cachefs.dataflow.engine.parameters import merge
from cachefs.dataflow.engine.service import FlowService
from cachefs.dataflow.spec.lexer import ExpressionError
from cachefs.dataflow.spec.model import Flow, Trigger, Value
from cachefs.dataflow.spec.templates import render
from cachefs.dataflow.triggers import store as rows
from cachefs.dataflow.triggers.store import Registered, TriggerRow
from cachefs.errors import ConfigError, NotAllowedError, NotKnownError
from cachefs.ports import Runtime


@dataclass(frozen=True, slots=True)
class Registration:
    """A flow that was registered, and what is only known now."""

    flow: Registered
    token: str
    """That a caller of its webhook shows; empty if it has none, or had it before."""


def digest_of(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class Register:
    """The registered flows. Safe from any thread."""

    def __init__(
        self, store: Store, runtime: Runtime, service: FlowService, *, tenants: Tenants
    ) -> None:
        """Keep them in a store.

        Args:
            store: Where they are kept.
            runtime: The clock.
            service: Checks documents.
            tenants: Say what a flow of a namespace may wait for.
        """
        self._tenants = tenants
        self._store = store
        self._runtime = runtime
        self._service = service

    def add(
        self,
        document: str,
        params: Mapping[str, Value],
        *,
        file: str = "flow",
        owner: str = "",
    ) -> Registration:
        """Register a flow.

        Args:
            document: The flow.
            params: Parameters that differ from the flow's own, for all its runs.
            file: The document's name, for messages.
            owner: What a program wants to know it by again.

        Raises:
            ConfigError: The document or a parameter is wrong, or only people start it.
            NotAllowedError: A trigger is not for the flow's namespace.
        """
        flow = self._service.validate(document, file=file)
        merged = merge(flow, params, may_be_open=True)
        wanted = [one for one in flow.triggers if not one.manual]
        if not wanted:
            raise ConfigError(
                "nothing but a person starts this flow",
                subject=flow.full_name,
                hint="spec.triggers says what does",
            )
        token = ""
        with self._store.write() as connection:
            before = rows.triggers(connection, flow=flow.full_name)
            made = []
            for number, trigger in enumerate(wanted):
                spec = dict(_spec(trigger, flow, merged))
                check_trigger(self._tenants, flow.namespace, spec)
                known = _same(before, trigger, spec)
                if trigger.webhook is not None and not spec.get("secret"):
                    if known is None:
                        token = secrets.token_urlsafe(32)
                        spec["digest"] = digest_of(token)
                    else:
                        spec = dict(known.spec)
                position = self._now() if known is None else known.position
                if trigger.event is not None and known is None:
                    dataset = DatasetName.parse(str(spec["dataset"]))
                    position = rows.last_version(connection, dataset)
                made.append(
                    TriggerRow(
                        flow=flow.full_name,
                        number=number,
                        kind=_kind(trigger),
                        spec=spec,
                        position=position,
                    )
                )
            registered = Registered(
                name=flow.full_name,
                document=document,
                params=dict(params),
                registered_at=self._runtime.wall(),
                triggers=tuple(made),
                owner=owner,
            )
            rows.put(connection, registered)
        return Registration(registered, token)

    def every(self) -> tuple[Registered, ...]:
        """Return the registered flows, sorted by name."""
        with self._store.read() as connection:
            return rows.every(connection)

    def get(self, name: str) -> Registered:
        """Return a registered flow.

        Raises:
            NotKnownError: None of that name is registered.
        """
        with self._store.read() as connection:
            found = rows.find(connection, name)
        if found is None:
            raise _unknown(name)
        return found

    def remove(self, name: str) -> None:
        """Have nothing start a flow any more; its runs go on.

        Raises:
            NotKnownError: It is not registered.
        """
        with self._store.write() as connection:
            if not rows.remove(connection, name):
                raise _unknown(name)

    def _now(self) -> int:
        return int(self._runtime.wall())


def check_trigger(tenants: Tenants, namespace: str, spec: Mapping[str, Value]) -> None:
    """Check that flows of a namespace may wait for what a trigger says, as it is kept.

    Raises:
        NotAllowedError: It names another namespace's dataset, or a secret of the coordinator's machine.
    """
    if "dataset" in spec:
        tenants.check_dataset(namespace, DatasetName.parse(str(spec["dataset"])))
    if spec.get("secret") and not tenants.is_trusted(namespace):
        raise NotAllowedError(
            "secrets of the coordinator's machine are not for webhooks of this namespace",
            subject=namespace,
            hint="leave `secret` out, and a token is made; or have the namespace trusted",
        )


def _unknown(name: str) -> NotKnownError:
    return NotKnownError(
        "no such flow is registered", subject=printable(name), hint="`cachefs flow list` lists them"
    )


def _kind(trigger: Trigger) -> rows.Kind:
    if trigger.cron:
        return "cron"
    return "event" if trigger.event is not None else "webhook"


def _spec(trigger: Trigger, flow: Flow, params: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
    """Yield what is kept of a trigger, its templates rendered but those of its parameters."""
    if trigger.cron:
        yield "cron", trigger.cron
        return
    given = trigger.event if trigger.event is not None else trigger.webhook or {}
    names = {"params": params, "flow": {"name": flow.name, "namespace": flow.namespace}}
    for key, value in given.items():
        try:
            kept = value if key == "params" else render(value, names)
        except ExpressionError as error:
            raise ConfigError(str(error), subject=f"spec.triggers: {key}") from error
        if key == "dataset":
            text = str(kept)
            kept = str(DatasetName.parse(text if "/" in text else f"{flow.namespace}/{text}"))
        yield key, kept


def _same(
    before: tuple[TriggerRow, ...], trigger: Trigger, spec: Mapping[str, Value]
) -> TriggerRow | None:
    """Return the trigger that was registered before and waits for the same."""
    for row in before:
        kept = {key: value for key, value in row.spec.items() if key not in ("digest", "params")}
        wanted = {key: value for key, value in spec.items() if key != "params"}
        if row.kind == _kind(trigger) and kept == wanted:
            return row
    return None
