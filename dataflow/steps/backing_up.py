"""``backup``: a dataset's files are at an origin, too, copied out of the cache."""

from collections.abc import Mapping

from cachefs.dataflow.copying.carrying import Carrier
from cachefs.dataflow.copying.ends import Sites, Wanted
from cachefs.dataflow.ports import Observed, StepContext, StepKind
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import Backup, DeleteCopies
from cachefs.dataflow.spec.model import Value


class BackupStep(StepKind):
    """Done when every file is there, as the cache gave it.

    What is resident costs the dataset's own origin nothing; what is not is filled on the way.
    """

    def __init__(self, sites: Sites) -> None:
        """Copy from datasets to origins."""
        self._carrier = Carrier(sites)

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Compare the manifest with what the origin lists and what was noted."""
        given: Backup = kinds.check("backup", arguments)
        return self._carrier.observe(context, Wanted.of_backup(given), given.parallel)

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Copy."""
        given: Backup = kinds.check("backup", arguments)
        self._carrier.carry(
            context,
            Wanted.of_backup(given),
            verify=given.verify,
            parallel=given.parallel,
            rate=given.rate,
        )

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """Delete what this step wrote, if it says so."""
        back: DeleteCopies = kinds.check_compensation("backup", how)
        given: Backup = kinds.check("backup", arguments)
        if back.delete:
            self._carrier.delete(context, Wanted.of_backup(given))
