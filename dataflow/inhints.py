"""Hints as steps see them, inside the coordinator's own process."""

from cachefs.core.hints.asking import Question, Reading
from cachefs.core.names import DatasetName
from cachefs.dataflow.ports import Soonest
from cachefs.errors import CacheFSError
from cachefs.hints.service import HintService


class ServiceHints:
    """Implements :class:`cachefs.dataflow.ports.Hints` on the service that answers for hints."""

    def __init__(self, service: HintService) -> None:
        """Ask this service."""
        self._service = service

    def soonest(self, name: DatasetName, version: str | None) -> Soonest | None:
        """Say where a reader of a dataset would be ready soonest."""
        reading = Reading(dataset=name, version=version)
        try:
            hint = self._service.answer(Question(readings=(reading,), limit=1, dry_run=True))
        except CacheFSError:
            return None  # advice that cannot be had is no reason to fail
        if not hint.nodes or hint.degraded:
            return None
        best = hint.nodes[0]
        return Soonest(best.node, best.ready.p50, best.breakdown.bottleneck)
