"""The routes of registered flows, ``/v1/flows``, and of their webhooks, ``/v1/hooks``.

A webhook's caller has a token that opens that one path and nothing else; it is checked before anything
of the body is read.
"""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Body, Header, Path, Response

from cachefs.coordinator.bodies import Body as Object
from cachefs.coordinator.bodies import Text
from cachefs.dataflow.engine.service import KEY_LENGTH_MAX
from cachefs.dataflow.serving.bodies import DocumentBody, Params, RunBody
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.triggers.firing import HOOKS, Triggers
from cachefs.dataflow.triggers.registering import Register, Registration
from cachefs.dataflow.triggers.store import Registered, TriggerRow

_KEY_MAX = KEY_LENGTH_MAX - len("webhook ")

Part = Annotated[str, Path(max_length=63)]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=_KEY_MAX)]


class RegistrationBody(DocumentBody):
    """A flow that something other than a person is to start."""

    params: Params = {}  # noqa: RUF012 - pydantic copies it
    """What differs from the flow's own parameters, in all its runs."""
    owner: Text = ""
    """What a program that looks after it wants to know it by again."""


class TriggerBody(Object):
    """What starts a registered flow."""

    kind: str
    spec: dict[str, Value]
    """What it waits for."""

    @classmethod
    def of(cls, row: TriggerRow) -> "TriggerBody":
        """Return the body of a trigger."""
        shown = {key: value for key, value in row.spec.items() if key != "digest"}
        return cls(kind=row.kind, spec=shown)


class RegisteredBody(Object):
    """A registered flow."""

    flow: str
    params: dict[str, Value]
    registered_at: float
    triggers: list[TriggerBody]
    hook: str
    """The path of its webhook; empty if it has none."""
    token: str
    """That a caller of the webhook must show; only told when the flow is registered first."""
    owner: str
    """As it was given; empty for a person's."""

    @classmethod
    def of(cls, flow: Registered, *, token: str = "") -> "RegisteredBody":
        """Return the body of a registered flow."""
        hooked = any(row.kind == "webhook" for row in flow.triggers)
        return cls(
            flow=flow.name,
            params=dict(flow.params),
            registered_at=flow.registered_at,
            triggers=[TriggerBody.of(row) for row in flow.triggers],
            hook=f"{HOOKS}{flow.name}" if hooked else "",
            token=token,
            owner=flow.owner,
        )


class RegisteredListBody(Object):
    """Registered flows, sorted by name."""

    flows: list[RegisteredBody]


def trigger_routers(register: Register, triggers: Triggers) -> Sequence[APIRouter]:
    """Return the routes."""
    return (_flow_routes(register), _hook_routes(triggers))


def _flow_routes(register: Register) -> APIRouter:
    router = APIRouter(prefix="/v1/flows", tags=["flows"])

    @router.post("", status_code=201)
    def add(body: RegistrationBody) -> RegisteredBody:
        """Have a flow's triggers start it, in place of what is registered under its name."""
        made: Registration = register.add(
            body.document, body.params, file=body.file, owner=body.owner
        )
        return RegisteredBody.of(made.flow, token=made.token)

    @router.get("")
    def list_flows() -> RegisteredListBody:
        """List the flows that something other than a person starts."""
        return RegisteredListBody(flows=[RegisteredBody.of(flow) for flow in register.every()])

    @router.delete("/{namespace}/{name}", status_code=204)
    def remove(namespace: Part, name: Part) -> None:
        """Have nothing start a flow any more; its runs go on."""
        register.remove(f"{namespace}/{name}")

    return router


def _hook_routes(triggers: Triggers) -> APIRouter:
    router = APIRouter(prefix=HOOKS.rstrip("/"), tags=["flows"])

    @router.post("/{namespace}/{name}", status_code=202, responses={200: {"model": RunBody}})
    def call(
        namespace: Part,
        name: Part,
        response: Response,
        body: Annotated[Value, Body()] = None,
        key: Key = "",
    ) -> RunBody:
        """Start a registered flow; what is sent is ``trigger.body`` in its expressions."""
        submitted = triggers.call(f"{namespace}/{name}", body, key=key)
        if not submitted.is_new:
            response.status_code = 200
        return RunBody.of(submitted.run)

    return router
