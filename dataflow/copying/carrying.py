"""Carrying: a copy as a step has it, to be observed, made, and undone."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from cachefs.dataflow.copying.asking import Asker
from cachefs.dataflow.copying.copying import Copying, forget
from cachefs.dataflow.copying.ends import Opened, Place, Sites, Wanted, entries_of, pin_source
from cachefs.dataflow.copying.ledger import Ledger
from cachefs.dataflow.copying.options import CopyOptions
from cachefs.dataflow.copying.plans import CopySizes, compare, sizes_of
from cachefs.dataflow.ports import Observed, StepContext
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec.arguments import Backup, Migrate, Verification

_LEDGER = "copy"
"""In the checkpoint."""


class Carrier:
    """Copies files for steps. Keeps nothing but what is in their checkpoints."""

    def __init__(self, sites: Sites) -> None:
        """Open ends there."""
        self._sites = sites

    def observe(self, context: StepContext, wanted: Wanted, parallel: int) -> Observed:
        """Compare both listings with the ledger; reads no file."""
        with self._open(context, wanted, parallel) as opened:
            ledger = _ledger(context)
            plan = compare(opened.sources, opened.there, ledger)
            total = plan.bytes_done + plan.bytes_left
            progress = Progress(
                done=plan.bytes_done,
                total=total,
                origin_bytes=ledger.origin_bytes,
                egress_bytes=ledger.origin_bytes if opened.ends.charged else 0,
            )
            outputs = {
                "files": len(plan.done),
                "bytes": total,
                "to": wanted.to.url,
                "origin_bytes": ledger.origin_bytes,
            }
            done = not plan.candidates
            return Observed(done, progress, outputs if done else {})

    def carry(
        self,
        context: StepContext,
        wanted: Wanted,
        *,
        verify: Verification,
        parallel: int,
        rate: int,
    ) -> None:
        """Copy what is not there."""

        def note(noted: Mapping[str, object]) -> None:
            context.note({**context.checkpoint(), _LEDGER: noted})

        with self._open(context, wanted, parallel) as opened:
            pin_source(context, opened, wanted)
            ledger = _ledger(context)
            options = CopyOptions(
                key=_key(context),
                verify=verify,
                parallel=self._streams(parallel),
                rate=rate,
                part_bytes=opened.part_bytes,
            )
            plan = compare(opened.sources, opened.there, ledger)
            with Copying(context, opened.ends, ledger, options, note=note) as copying:
                copying.run(plan)

    def delete(self, context: StepContext, wanted: Wanted) -> None:
        """Remove what this step wrote and is still as it wrote it, and what it left unfinished."""
        key = _key(context)
        ledger = _ledger(context)
        asker = Asker(context.runtime, rate=0, subject=key)
        with self._sites.destination(Place.of_step(context), wanted) as (destination, there):
            for path in list(ledger.unfinished):
                context.sleep(0.0)
                forget(asker, destination, ledger, key, path)
            for entry in there.list():
                context.sleep(0.0)
                if ledger.wrote(entry):
                    destination.remove(entry.path)

    def _open(
        self, context: StepContext, wanted: Wanted, parallel: int
    ) -> AbstractContextManager[Opened]:
        streams = self._streams(parallel)
        return self._sites.open(Place.of_step(context), wanted, streams=streams)

    def _streams(self, parallel: int) -> int:
        # More would only wait for each other's turn.
        return min(parallel, self._sites.config.requests_limit)


def _ledger(context: StepContext) -> Ledger:
    return Ledger.decode(context.checkpoint().get(_LEDGER, {}))


def _key(context: StepContext) -> str:
    """Return the key of what is written: undoing finds it under the same."""
    return context.key.removesuffix("/undo")


def sizes(sites: Sites, place: Place, given: Migrate | Backup) -> CopySizes:
    """Say what a copy would cost, by listing both ends; reads no file, and changes nothing.

    Of a dataset as destination, everything counts as to be copied: how much of it is resident is known
    once it is published.

    Raises:
        CacheFSError: An end cannot be listed.
    """
    if isinstance(given, Migrate):
        wanted = Wanted.of_migrate(given)
        if given.to.dataset is not None:
            with sites.source(place, wanted, streams=1) as source:
                listed = entries_of(source.origin, place.runtime)
            return sizes_of(compare(listed, (), Ledger()), given.verify)
    else:
        wanted = Wanted.of_backup(given)
    with sites.open(place, wanted, streams=1) as opened:
        return sizes_of(compare(opened.sources, opened.there, Ledger()), given.verify)
