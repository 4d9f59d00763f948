"""Recovering: datasets that nobody uses make room, first in memory, then everywhere.

The rules are :func:`cachefs.core.idling.recover`'s; here is what they are asked with, and how it is
done. What is pinned does not count, and file versions that another dataset in use has, too, are left
alone. What is lent out a worker refuses to let go; then nothing is tried again for a while.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cachefs.coordinator.elastic.uses import Uses
from cachefs.coordinator.service import Coordinator
from cachefs.coordinator.store.engine import Store
from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import Dataset
from cachefs.core.idling import IdlePolicy, Recovery, Usage, policy_for, recover
from cachefs.core.names import DEFAULT_NAMESPACE, DatasetName
from cachefs.errors import CacheFSError

RETRY_SECONDS = 60.0
"""Where little or nothing could be done, nothing is tried again for so long."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be done with a dataset, and with which of its file versions."""

    recovery: Recovery
    file_versions: tuple[FileVersionId, ...]


def placed(
    policies: Mapping[str, IdlePolicy], names: Collection[DatasetName]
) -> dict[str, IdlePolicy]:
    """Return the policies by the scopes of :mod:`cachefs.core.idling`.

    People write a dataset of the default namespace without it; no namespace has the name of such a one.
    """
    return {
        f"{DEFAULT_NAMESPACE}/{scope}"
        if scope and "/" not in scope and DatasetName(DEFAULT_NAMESPACE, scope) in names
        else scope: policy
        for scope, policy in policies.items()
    }


class Recoverer:
    """Finds and carries out what idle policies ask for. Not safe for concurrent use."""

    def __init__(self, coordinator: Coordinator, store: Store, uses: Uses) -> None:
        """Work with a coordinator's parts."""
        self._coordinator = coordinator
        self._store = store
        self._uses = uses

    def plan(
        self, policies: Mapping[str, IdlePolicy], datasets: Sequence[Dataset]
    ) -> tuple[Planned, ...]:
        """Return what is to be done now, what has been idle longest first."""
        policies = placed(policies, {dataset.name for dataset in datasets})
        idle = {each.name: self._uses.idle_seconds(each.name) for each in datasets}
        due = [
            each for each in datasets if _is_due(policy_for(policies, each.name), idle[each.name])
        ]
        if not due:
            return ()
        files = {each.name: self._files(each.name) for each in datasets}
        with self._store.read() as connection:
            kept = set(self._coordinator.catalogue.pins.read(connection).pinned)
        names = {dataset.name for dataset in due}
        for name, sizes in files.items():
            if name not in names:
                kept |= sizes.keys()
        usages = [self._usage(each.name, idle[each.name], files[each.name], kept) for each in due]
        return tuple(
            Planned(one, tuple(sorted(files[one.dataset].keys() - kept)))
            for one in recover(policies, usages)
        )

    def carry_out(self, planned: Planned) -> int:
        """Do it; return the bytes that were freed.

        Raises:
            CacheFSError: The workers or the store could not be asked.
        """
        recovery = planned.recovery
        return self._coordinator.let_go(
            recovery.dataset,
            planned.file_versions,
            only_memory=recovery.action == "demote",
            reason=recovery.reason,
        )

    def _usage(
        self,
        name: DatasetName,
        idle_seconds: float,
        sizes: Mapping[FileVersionId, int],
        kept: Collection[FileVersionId],
    ) -> Usage:
        free = {file: size for file, size in sizes.items() if file not in kept}
        view = self._coordinator.members.view
        by_tier = {"memory": 0, "disk": 0}
        for share in self._coordinator.residency.summary(free, view).shares:
            by_tier[share.tier] = by_tier.get(share.tier, 0) + share.size
        return Usage(
            dataset=name,
            idle_seconds=idle_seconds,
            memory_bytes=by_tier["memory"],
            disk_bytes=by_tier["disk"],
        )

    def _files(self, name: DatasetName) -> dict[FileVersionId, int]:
        catalogue, found = self._coordinator.catalogue, dict[FileVersionId, int]()
        try:
            for version in catalogue.versions(name):
                for entry in catalogue.manifest(version.id).files:
                    found[entry.file_version] = entry.size
        except CacheFSError:  # it was removed a moment ago
            return found
        return found


def _is_due(policy: IdlePolicy | None, idle_seconds: float) -> bool:
    if policy is None:
        return False
    times = (policy.demote_after, policy.evict_after)
    return any(after is not None and idle_seconds >= after for after in times)
