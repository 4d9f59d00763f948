"""Confining: what steps of a namespace may touch that is not trusted with everything.

Each kind of step is wrapped, and each time that it is asked to look, act or undo, what it was given is
looked through first, with all templates rendered: nothing that a flow computes can name what it may not
(:mod:`cachefs.core.tenants`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from cachefs.core.datasets import OriginSpec
from cachefs.core.names import DEFAULT_NAMESPACE
from cachefs.core.tenants import Tenants
from cachefs.dataflow.copying.ends import Wanted, spec_of
from cachefs.dataflow.ports import Cache, Observed, StepContext, StepKind
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import (
    Backup,
    Migrate,
    Notify,
    Process,
    Rollout,
    Scale,
    SubFlow,
)
from cachefs.dataflow.spec.model import Kind, Value
from cachefs.dataflow.spec.shapes import DatasetRef
from cachefs.dataflow.steps.choosing import name_of
from cachefs.errors import NotAllowedError

_OF_THE_MACHINE = ("env:", "file:")
"""References to secrets of the coordinator's machine."""


class ConfinedStep(StepKind):
    """A kind of step, for namespaces of both sorts."""

    def __init__(
        self,
        kind: Kind,
        step: StepKind,
        *,
        tenants: Tenants,
        cache: Cache,
        programs_here: bool,
    ) -> None:
        """Wrap a kind.

        Args:
            kind: Its name.
            step: What carries it out.
            tenants: Says what is denied.
            cache: Knows whose a pool is.
            programs_here: Whether programs run on the coordinator's own machine.
        """
        self._kind = kind
        self._step = step
        self._tenants = tenants
        self._cache = cache
        self._programs_here = programs_here

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Say whether the world is as the step wants it."""
        self._check(context, arguments)
        return self._step.observe(context, arguments)

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Make it so."""
        self._check(context, arguments)
        self._step.apply(context, arguments)

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """Undo it; what undoes a step names nothing that the step itself does not."""
        self._check(context, arguments)
        self._step.compensate(context, arguments, how)

    def _check(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        if self._tenants.is_trusted(context.namespace):
            return
        wanted = kinds.check(self._kind, arguments)
        for dataset in _datasets(wanted):
            self._tenants.check_dataset(context.namespace, name_of(context, dataset))
        for origin in _sources(wanted):
            self._tenants.check_origin(context.namespace, origin)
        for origin in _destinations(wanted):
            self._tenants.check_destination(context.namespace, origin)
        fault = self._fault(context, wanted)
        if fault:
            raise NotAllowedError(fault, subject=context.namespace)

    def _fault(self, context: StepContext, wanted: object) -> str:
        """Return what a step may not do, or nothing."""
        match wanted:
            case Scale():
                pool = wanted.pool
                if wanted.dataset is not None:
                    pool = self._cache.pool_of(name_of(context, wanted.dataset))
                if self._cache.pool(pool).exclusive != context.namespace:
                    return f"pool {pool} is not this namespace's own"
            case Notify() | Process() if _names_secrets(wanted):
                return "secrets of the coordinator's machine are not for this namespace"
            case Process() | Rollout() if self._is_here(wanted):
                return "programs of this namespace do not run on the coordinator's machine"
            case SubFlow() if _namespace_of(wanted, context.namespace) != context.namespace:
                return "flows of this namespace run no others than their own"
            case _:
                pass
        return ""

    def _is_here(self, wanted: Process | Rollout) -> bool:
        """Return whether a program would run on the coordinator's machine."""
        if isinstance(wanted, Rollout):
            return wanted.target.startswith("local/")
        return self._programs_here


def _names_secrets(wanted: Notify | Process) -> bool:
    """Return whether secrets of the coordinator's machine are named."""
    if isinstance(wanted, Notify):
        return bool(wanted.secret_headers) or wanted.url.startswith(_OF_THE_MACHINE)
    return any(each.startswith(_OF_THE_MACHINE) for each in wanted.secrets.values())


def _datasets(wanted: object) -> Iterator[DatasetRef]:
    """Yield all datasets that arguments name, however deep."""
    if isinstance(wanted, DatasetRef):
        yield wanted
    elif isinstance(wanted, tuple):
        for each in wanted:
            yield from _datasets(each)
    elif is_dataclass(wanted):
        for one in fields(wanted):
            yield from _datasets(getattr(wanted, one.name))


def _sources(wanted: object) -> Iterator[OriginSpec]:
    """Yield all places that arguments name which the coordinator would speak with, but not write to."""
    match wanted:
        case Migrate() if wanted.from_.dataset is None:
            yield spec_of(wanted, "from")
        case Notify() if not wanted.url.startswith(_OF_THE_MACHINE):
            # From where the coordinator is, more can be reached than from where the namespace's pods are.
            yield OriginSpec(wanted.url)
        case _:
            pass


def _destinations(wanted: object) -> Iterator[OriginSpec]:
    """Yield all places that the coordinator would write to."""
    match wanted:
        case Migrate() if wanted.to.dataset is None:
            yield spec_of(wanted, "to")
        case Backup():
            yield Wanted.of_backup(wanted).to
        case _:
            pass


def _namespace_of(wanted: SubFlow, own: str) -> str:
    """Return in which namespace a sub-flow runs."""
    if wanted.document is None:
        namespace, slash, _ = wanted.name.rpartition("/")
        return namespace if slash else own
    metadata = wanted.document.get("metadata")
    named = metadata.get("namespace") if isinstance(metadata, Mapping) else None
    return str(named or DEFAULT_NAMESPACE)
