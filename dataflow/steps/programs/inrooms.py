"""Programs in rooms: those that run on the coordinator's own machine."""

from os.path import normpath
from pathlib import Path

from cachefs.dataflow.ports import StepContext
from cachefs.dataflow.spec.arguments import MountOf
from cachefs.dataflow.steps.choosing import name_of
from cachefs.dataflow.steps.programs import rooms
from cachefs.dataflow.steps.programs.places import Places
from cachefs.dataflow.steps.programs.rooms import Found
from cachefs.dataflow.steps.programs.running import Programs, Wanted
from cachefs.errors import CapacityError

OUTPUTS = "outputs.json"
OUTPUTS_BYTES_MAX = 64 * 1024


class RoomPrograms(Programs):
    """Each attempt's program has a room of its own; see :mod:`.rooms`."""

    def __init__(self, places: Places) -> None:
        """Use rooms.

        Args:
            places: Where they are.
        """
        self._places = places
        self.tethered = places.tethered

    def begin(self, context: StepContext, wanted: Wanted, *, part: str = "") -> None:
        """Start a program in its room, unless that was done."""
        self._places.trim()
        room = self._room(context, part)
        if not part:
            self._places.rooms.stop(self._places.earlier(context))
        folder = Path(wanted.workdir or room)
        secrets = {name: self._places.revealed(text) for name, text in wanted.secrets.items()}
        program = self._places.program(
            context,
            wanted.command,
            workdir=folder,
            variables={"CACHEFS_OUTPUTS": str(room / OUTPUTS), **wanted.variables, **secrets},
            mounts={normpath(folder / one.path): whole(context, one) for one in wanted.mounts},
        )
        self._places.rooms.begin(room, program)

    def look(self, context: StepContext, *, part: str = "") -> Found:
        """Say how a room's program stands."""
        return self._places.rooms.look(self._room(context, part))

    def stop(self, context: StepContext, *, part: str = "") -> None:
        """End a room's program."""
        self._places.rooms.stop([self._room(context, part)])

    def tail(self, context: StepContext, size: int, *, part: str = "") -> str:
        """Return the end of a room's log."""
        return rooms.tail(self._room(context, part), size)

    def outputs(self, context: StepContext, *, part: str = "") -> bytes:
        """Return what the program wrote into its room."""
        try:
            with (self._room(context, part) / OUTPUTS).open("rb") as file:
                text = file.read(OUTPUTS_BYTES_MAX + 1)
        except FileNotFoundError:
            return b""
        if len(text) > OUTPUTS_BYTES_MAX:
            raise CapacityError(f"outputs of more than {OUTPUTS_BYTES_MAX} bytes", subject=OUTPUTS)
        return text

    def _room(self, context: StepContext, part: str) -> Path:
        room = self._places.room(context)
        return room / part if part else room


def whole(context: StepContext, mount: MountOf) -> str:
    """Return a dataset as it is mounted, with its namespace: it may be called ``list``."""
    name = name_of(context, mount.dataset)
    version = f"@{mount.dataset.version}" if mount.dataset.version else ""
    return f"{name.namespace}/{name.name}{version}"
