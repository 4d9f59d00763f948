"""Recovering: datasets that nobody uses make room, first in memory, then everywhere.

The rules are :func:`cachefs.core.idling.recover`'s; here is what they are asked with, and how it is
done. What is pinned does not count, and file versions that another dataset in use has, too, are left
alone. What is lent out a worker refuses to let go; then nothing is tried again for a while. A dataset of
which nothing is left, and that nobody uses, is not looked at again for minutes: most idle ones are so.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cachefs.coordinator.elastic.uses import Uses
from cachefs.coordinator.service import Coordinator
from cachefs.coordinator.store.engine import Store
from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import Dataset
from cachefs.core.idling import IdlePolicy, Recovery, Usage, policy_for, recover
from cachefs.core.manifest import VersionId
from cachefs.core.names import DEFAULT_NAMESPACE, DatasetName
from cachefs.errors import NotKnownError

RETRY_SECONDS = 60.0
"""Where nothing could be done, nothing is tried again for so long."""
EMPTY_SECONDS = 300.0
"""Where nothing was to be done, one does not look again for so long, unless the dataset is used."""
LOOKS_LIMIT = 10
"""Idle datasets that are looked at once; some milliseconds for each thousand files of one."""
_SAME_SECONDS = 0.5
"""Uses that are no further apart are one."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be done with a dataset, and with which of its file versions."""

    recovery: Recovery
    file_versions: tuple[FileVersionId, ...]


@dataclass(frozen=True, slots=True)
class _Rest:
    """For how long a dataset is not looked at, both on the monotonic clock."""

    until: float
    used_at: float
    """A later use ends it."""


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
    """Finds and carries out what idle policies ask for. Its owner calls one method at a time."""

    def __init__(self, coordinator: Coordinator, store: Store, uses: Uses) -> None:
        """Work with a coordinator's parts."""
        self._coordinator = coordinator
        self._store = store
        self._uses = uses
        self._resting: dict[DatasetName, _Rest] = {}

    def due(
        self, policies: Mapping[str, IdlePolicy], datasets: Sequence[Dataset], *, now: float
    ) -> tuple[Planned, ...]:
        """Return what is to be done now of what does not rest; all that was looked at rests then.

        Args:
            policies: By scope.
            datasets: All there are.
            now: On the monotonic clock.
        """
        self._resting = {name: rest for name, rest in self._resting.items() if rest.until > now}
        idle = {each.name: self._uses.idle_seconds(each.name) for each in datasets}
        resting = {
            name
            for name, rest in self._resting.items()
            if abs(now - idle.get(name, 0.0) - rest.used_at) < _SAME_SECONDS
        }
        scopes = placed(policies, idle.keys())
        unused = [
            (seconds, name, policy)
            for name, seconds in idle.items()
            if (policy := policy_for(scopes, name)) is not None
            and name not in resting
            and _is_due(policy, seconds)
        ]
        unused.sort(key=lambda each: (-each[0], str(each[1])))
        later = {name for _, name, _ in unused[LOOKS_LIMIT:]}
        found = self.plan(policies, datasets, resting=resting | later)
        planned = {one.recovery.dataset for one in found}
        for seconds, name, policy in unused[:LOOKS_LIMIT]:
            wait = RETRY_SECONDS if name in planned else EMPTY_SECONDS
            for after in (policy.demote_after, policy.evict_after):
                if after is not None and after > seconds:
                    wait = min(wait, after - seconds)
            self._resting[name] = _Rest(now + wait, now - seconds)
        return found

    def wake(self, name: DatasetName) -> None:
        """Look at a dataset again the next time."""
        self._resting.pop(name, None)

    def plan(
        self,
        policies: Mapping[str, IdlePolicy],
        datasets: Sequence[Dataset],
        *,
        resting: Collection[DatasetName] = (),
    ) -> tuple[Planned, ...]:
        """Return what is to be done now but for what rests, what has been idle longest first."""
        policies = placed(policies, {dataset.name for dataset in datasets})
        idle = {each.name: self._uses.idle_seconds(each.name) for each in datasets}
        unused = {
            name for name, seconds in idle.items() if _is_due(policy_for(policies, name), seconds)
        }
        due = sorted(unused - set(resting), key=str)
        if not due:
            return ()
        files = {name: self._files(name) for name in due}
        origins = {origin for name in due for origin in self._versions(name)}
        with self._store.read() as connection:
            kept = set(self._coordinator.catalogue.pins.read(connection).pinned)
        for name in idle.keys() - unused:
            kept |= self._files(name, origins).keys()
        usages = [self._usage(name, idle[name], files[name], kept) for name in due]
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

    def _files(
        self, name: DatasetName, origins: Collection[str] | None = None
    ) -> dict[FileVersionId, int]:
        """Return the file versions of a dataset, if need be only those of some origins."""
        found: dict[FileVersionId, int] = {}
        for origin, versions in self._versions(name).items():
            if origins is not None and origin not in origins:
                continue  # the origin is a part of a file version's name
            for version in versions:
                with suppress(NotKnownError):  # it was dropped a moment ago
                    for entry in self._coordinator.catalogue.manifest(version).files:
                        found[entry.file_version] = entry.size
        return found

    def _versions(self, name: DatasetName) -> dict[str, list[VersionId]]:
        """Return the versions of a dataset by the origin that they are of."""
        found: dict[str, list[VersionId]] = {}
        with suppress(NotKnownError):  # it was removed a moment ago
            for version in self._coordinator.catalogue.versions(name):
                found.setdefault(version.origin.identity, []).append(version.id)
        return found


def _is_due(policy: IdlePolicy | None, idle_seconds: float) -> bool:
    if policy is None:
        return False
    times = (policy.demote_after, policy.evict_after)
    return any(after is not None and idle_seconds >= after for after in times)
