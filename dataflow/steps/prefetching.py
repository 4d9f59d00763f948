"""``prefetch``: files are resident before anybody asks for them."""

from collections.abc import Mapping
from dataclasses import replace

from cachefs.core.coverage import Coverage
from cachefs.core.jobs import WarmJob
from cachefs.dataflow.costs import is_charged
from cachefs.dataflow.ports import Cache, Observed, StepContext, StepKind
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import EvictAgain, Prefetch
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.steps.choosing import FilesOf, Rate, choose, own_paths, pin
from cachefs.errors import DeadlineError, FlowError, StepCancelledError
from cachefs.wire import failures

_LOOK_SECONDS = 0.5
_NOWHERE = "nowhere"
"""In the checkpoint: how many bytes no worker held when the step first began."""
_HERE = "here"
"""And how many were where they shall be: what others fill elsewhere meanwhile is not this step's."""
_MEDIA = {"nvme": "disk"}


class PrefetchStep(StepKind):
    """Done when live workers hold every block, verified, as often and where it was asked for."""

    def __init__(self, cache: Cache) -> None:
        """Warm a cache."""
        self._cache = cache

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Compare what workers hold with what they shall."""
        wanted: Prefetch = kinds.check("prefetch", arguments)
        files = choose(self._cache, context, wanted.dataset, wanted.paths)
        residency = self._cache.residency(files.name, files.version, files.paths)
        return self._observed(context, wanted, files, residency)

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Run a warm-up to its end."""
        wanted: Prefetch = kinds.check("prefetch", arguments)
        files = choose(self._cache, context, wanted.dataset, wanted.paths)
        pin(context, wanted.dataset, files.version)
        residency = self._cache.residency(files.name, files.version, files.paths)
        if _NOWHERE not in context.checkpoint():
            nowhere = residency.bytes_total - residency.bytes_resident
            here = _resident(wanted, residency)
            context.note({**context.checkpoint(), _NOWHERE: nowhere, _HERE: here})
        job = self._cache.warm(
            files.name,
            files.version,
            files.paths if wanted.paths else (),
            key=context.key,
            zone=wanted.zone,
            copies=wanted.copies,
            rate=wanted.rate,
        )
        try:
            self._follow(context, wanted, files, job.id)
        except (StepCancelledError, DeadlineError):
            if context.abandoned:
                raise  # whoever goes on follows the same warm-up
            self._cache.cancel_warm(job.id)
            raise

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """Drop the files again, if it says so."""
        back: EvictAgain = kinds.check_compensation("prefetch", how)
        wanted: Prefetch = kinds.check("prefetch", arguments)
        if back.evict:
            files = choose(self._cache, context, wanted.dataset, wanted.paths)
            paths = own_paths(self._cache, files)
            if paths:
                self._cache.evict(files.name, files.version, paths)

    def _follow(self, context: StepContext, wanted: Prefetch, files: FilesOf, job_id: str) -> None:
        rate = Rate()
        while True:
            job = self._cache.warm_job(job_id)
            residency = self._cache.residency(files.name, files.version, files.paths)
            progress = self._observed(context, wanted, files, residency).progress
            now = context.runtime.monotonic()
            context.report(replace(progress, rate=rate.note(now, progress.done)))
            if not job.active:
                _raise_failure(job)
                return
            context.sleep(_LOOK_SECONDS)

    def _observed(
        self, context: StepContext, wanted: Prefetch, files: FilesOf, residency: Coverage
    ) -> Observed:
        here = resident = _resident(wanted, residency)
        copies = residency.copies
        if wanted.zone:
            copies = residency.copies_by_zone.get(wanted.zone, 0)
        if wanted.tier:
            tier = _MEDIA.get(wanted.tier, wanted.tier)
            resident = min(resident, residency.bytes_by_tier.get(tier, 0))
        members = [
            member
            for member in self._cache.view().members
            if member.pool == files.resolved.pool
            and not member.draining
            and wanted.zone in ("", member.zone)
        ]
        # More copies than workers cannot be had, and none would be no success.
        own = 1 if wanted.zone else files.resolved.replicas
        enough = max(1, min(wanted.copies or own, len(members)))
        done = bool(members) and resident == residency.bytes_total
        done = done and (copies >= enough or not residency.bytes_total)
        nowhere = residency.bytes_total - residency.bytes_resident
        checkpoint = context.checkpoint()
        brought = here - int(checkpoint.get(_HERE, here))
        taken = int(checkpoint.get(_NOWHERE, nowhere)) - nowhere
        origin_bytes = max(0, min(brought, taken))
        progress = Progress(
            done=resident,
            total=residency.bytes_total,
            note="" if members else "there is no worker to hold anything",
            origin_bytes=origin_bytes,
            egress_bytes=origin_bytes if is_charged(files.resolved.origin.url) else 0,
        )
        outputs = {
            "dataset": str(files.name),
            "version": files.version,
            "bytes": residency.bytes_total,
            "files": len(files.files),
        }
        return Observed(done, progress, outputs if done else {})


def _resident(wanted: Prefetch, residency: Coverage) -> int:
    """Return the bytes that are where they shall be, on whichever tier."""
    return residency.bytes_by_zone.get(wanted.zone, 0) if wanted.zone else residency.bytes_resident


def _raise_failure(job: WarmJob) -> None:
    if job.state == "cancelled":
        raise FlowError("somebody cancelled the warm-up", subject=job.id)
    if job.state == "failed":
        raise failures.decode(job.failure.encode())
