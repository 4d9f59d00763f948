"""``local/NAME``: replicas are processes of the coordinator's machine.

Each replica has a room of its own (:mod:`cachefs.dataflow.steps.programs`), under a number that no other
ever had. So they outlive the coordinator, and its successor finds them. Those that end are not started
again once the rollout is over: this is a laptop's deployment, not a service manager.
"""

import fcntl
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cachefs.dataflow.ports import StepContext
from cachefs.dataflow.spec.arguments import Rollout
from cachefs.dataflow.steps.programs.places import Places
from cachefs.dataflow.steps.programs.rooms import Found, look, notes_of, tail
from cachefs.dataflow.steps.rollouts.targets import Replica, RolloutTarget, Targets, Towards
from cachefs.errors import ConflictError, NotKnownError

_LAST_BYTES = 1024
_ROOMS_KEPT = 20
"""Of replicas that have ended: the newest, for their logs."""


@dataclass(frozen=True, slots=True)
class _Room:
    """A replica's room."""

    path: Path
    index: int
    """What it is called in its command: from 0, and no other that lives has the same."""
    revision: str
    found: Found


class LocalTargets(Targets):
    """Targets of this machine, and those of a cluster, if there is one."""

    def __init__(self, places: Places, cluster: Targets) -> None:
        """Use rooms.

        Args:
            places: Where they are.
            cluster: Finds all other targets.
        """
        self._places = places
        self._cluster = cluster

    def open(self, context: StepContext, target: str) -> RolloutTarget:
        """Return a target."""
        kind, _, name = target.partition("/")
        if kind != "local":
            return self._cluster.open(context, target)
        safe = blake2b(name.encode(), digest_size=8).hexdigest()
        return LocalTarget(self._places, self._places.target(context.namespace, safe), name)


class LocalTarget(RolloutTarget):
    """One target of this machine."""

    exact = True

    def __init__(self, places: Places, folder: Path, name: str) -> None:
        """Use a folder; it need not exist."""
        self._places = places
        self._folder = folder
        self._name = name

    def replicas(self) -> Sequence[Replica]:
        """Return those that live, and those that failed lately."""
        return [
            _replica(room) for room in self._rooms() if room.found.active or _failed(room.found)
        ]

    def keep(self, revision: str, wanted: Rollout) -> None:
        """Remember what a revision is."""
        document = {
            "command": list(wanted.command),
            "ready_line": wanted.ready.line,
            "ready_after": wanted.ready.after,
        }
        with self._locked():
            file = self._revision(revision)
            if file.exists() and json.loads(file.read_text())["command"] != document["command"]:
                live = [one for one in self._rooms() if one.found.active]
                if any(one.revision == revision for one in live):
                    raise ConflictError(
                        "replicas of this revision run another command",
                        subject=f"{self._name}@{revision}",
                        hint="give the new one another revision",
                    )
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps(document))
            partial.replace(file)

    def knows(self, revision: str) -> bool:
        """Say whether a revision was kept."""
        return self._revision(revision).exists()

    def reshape(self, context: StepContext, shape: Mapping[str, int], *, towards: Towards) -> None:
        """Stop those that are too many, then start those that are missing."""
        del towards
        with self._locked():
            rooms = list(self._rooms())
            live: dict[str, list[_Room]] = defaultdict(list)
            for room in sorted(rooms, key=lambda one: (one.found.ready_seconds is None, one.index)):
                if room.found.active:
                    live[room.revision].append(room)
            surplus = [room for name, here in live.items() for room in here[shape.get(name, 0) :]]
            self._places.rooms.stop([room.path for room in surplus])
            leaving = {room.path for room in surplus}
            taken = {
                room.index for here in live.values() for room in here if room.path not in leaving
            }
            free = (index for index in range(10**9) if index not in taken)
            number = max((int(room.path.name) for room in rooms), default=0)
            for revision, count in shape.items():
                for _ in range(count - len(live[revision])):
                    number += 1
                    self._start(context, number, next(free), revision)
            # A coordinator may have died between writing a replica down and starting it.
            for room in rooms:
                if room.found.standing == "starting" and room.path not in leaving:
                    self._begin(context, room.path, room.index, room.revision)
            over = sorted(int(room.path.name) for room in rooms if not room.found.active)
            for old in over[:-_ROOMS_KEPT]:
                shutil.rmtree(self._folder / "replicas" / str(old), ignore_errors=True)

    def _start(self, context: StepContext, number: int, index: int, revision: str) -> None:
        self._begin(context, self._folder / "replicas" / str(number), index, revision)

    def _begin(self, context: StepContext, room: Path, index: int, revision: str) -> None:
        try:
            kept: dict[str, Any] = json.loads(self._revision(revision).read_text())  # Any: JSON
        except FileNotFoundError as error:
            raise NotKnownError(
                "there is no such revision", subject=f"{self._name}@{revision}"
            ) from error
        names = {"{replica}": str(index), "{revision}": revision}
        program = self._places.program(
            context,
            tuple(_filled(word, names) for word in kept["command"]),
            workdir=room,
            variables={"CACHEFS_REPLICA": str(index), "CACHEFS_REVISION": revision},
            ready_line=kept["ready_line"],
            ready_after=kept["ready_after"],
        )
        # They live as long as they are wanted, whoever coordinates.
        program = replace(program, tethered=False)
        self._places.rooms.begin(room, program, notes={"index": index, "revision": revision})

    def _rooms(self) -> Iterator[_Room]:
        self._places.rooms.reap()
        try:
            paths = list((self._folder / "replicas").iterdir())
        except FileNotFoundError:
            return
        for path in paths:
            notes = notes_of(path) if path.name.isdecimal() else {}
            if notes:
                yield _Room(path, int(notes["index"]), str(notes["revision"]), look(path))

    def _revision(self, revision: str) -> Path:
        safe = blake2b(revision.encode(), digest_size=8).hexdigest()
        return self._folder / "revisions" / f"{safe}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other steps from changing the target meanwhile."""
        for name in ("replicas", "revisions"):
            (self._folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _replica(room: _Room) -> Replica:
    found = room.found
    failed = _failed(found)
    is_ready = found.ready_seconds is not None
    return Replica(
        id=room.path.name,
        revision=room.revision,
        state="failed" if failed else "ready" if is_ready else "starting",
        started_at=found.started_at,
        ready_seconds=found.ready_seconds,
        failure=_failure(room) if failed else "",
    )


def _failed(found: Found) -> bool:
    return found.standing == "lost" or (found.standing == "ended" and not found.stopped)


def _failure(room: _Room) -> str:
    if room.found.failure:
        return room.found.failure
    lines = tail(room.path, _LAST_BYTES).strip().splitlines()
    return lines[-1] if lines else f"ended with {room.found.code}"


def _filled(word: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        word = word.replace(name, value)
    return word
