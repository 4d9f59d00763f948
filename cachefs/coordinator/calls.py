"""What the coordinator asks of workers: warm, pin, evict, explain, drain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cachefs.config.secrets import Secret
from cachefs.core.blocks import FileVersionId
from cachefs.core.eviction import Retention
from cachefs.core.jobs import WarmJob
from cachefs.core.membership import Member
from cachefs.core.residency import encode_mask
from cachefs.ports import Runtime
from cachefs.transport.control import ControlChannel, worker_channel
from cachefs.wire import messages
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc

CALL_SECONDS = 10.0
"""Longest that a worker may take to answer, but for a drain."""
DRAIN_SECONDS = 120.0
DEMOTE_SECONDS = 120.0
"""Bytes are copied meanwhile."""
PIN_SECONDS = 2.0
"""Somebody waits for it, and a worker that is not told hears of it with its next renewal."""
_CHANNELS_LIMIT = 1000
"""Connections kept to workers; beyond it all are closed and made anew as they are needed."""


@dataclass(frozen=True, slots=True)
class Evicted:
    """What evicting brought."""

    size: int
    refused: tuple[FileVersionId, ...]
    """Lent out or pinned."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where a worker had a file version's bytes from."""

    served_bytes: Mapping[str, int]
    filled_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Drained:
    """What a worker hands over when it drains, or would."""

    blocks: int
    size: int
    seconds: float
    done: bool


class WorkerCalls:
    """Calls to workers, over connections that are kept. Safe from any thread."""

    def __init__(self, runtime: Runtime, token: Secret) -> None:
        """Connect as needed."""
        self._turn = runtime.condition()
        self._token = token
        self._channels: dict[str, ControlChannel] = {}

    def warm(
        self, member: Member, job: WarmJob, wanted: Mapping[FileVersionId, int], *, rate: int = 0
    ) -> None:
        """Tell a worker its whole share of a job, and at how many bytes a second to fill it."""
        channel, stub = self._stub(member)
        request = pb.WarmRequest(
            job=job.id,
            dataset=str(job.dataset),
            version=job.version,
            wanted=[
                pb.WantedBlocks(file_version=file_version, blocks=encode_mask(mask))
                for file_version, mask in wanted.items()
            ],
            rate=rate,
        )
        channel.call(stub.Warm, request)

    def pin(self, member: Member, pins: Retention) -> int:
        """Tell a worker all pins there are; return the revision of those that it obeys now."""
        channel, stub = self._stub(member)
        request = pb.PinRequest(pins=messages.retention_to_message(pins))
        answer = channel.call(stub.Pin, request, timeout_seconds=PIN_SECONDS)
        return int(answer.revision)

    def evict(
        self,
        member: Member,
        file_versions: Sequence[FileVersionId],
        *,
        only_memory: bool = False,
    ) -> Evicted:
        """Make a worker drop blocks that it can do without, or bring them from memory to disk."""
        channel, stub = self._stub(member)
        request = pb.EvictRequest(file_versions=file_versions, only_memory=only_memory)
        answer = channel.call(
            stub.Evict, request, timeout_seconds=DEMOTE_SECONDS if only_memory else None
        )
        return Evicted(answer.bytes, tuple(FileVersionId(one) for one in answer.refused))

    def explain(self, member: Member, file_version: FileVersionId) -> Account:
        """Ask a worker where it had a file version's bytes from."""
        channel, stub = self._stub(member)
        answer = channel.call(stub.Explain, pb.ExplainRequest(file_version=file_version))
        return Account(dict(answer.served_bytes), dict(answer.filled_bytes))

    def drain(self, member: Member, *, dry_run: bool) -> Drained:
        """Make a worker hand over what only it holds; ask again until it is done."""
        channel, stub = self._stub(member)
        answer = channel.call(
            stub.Drain, pb.DrainRequest(dry_run=dry_run), timeout_seconds=DRAIN_SECONDS
        )
        return Drained(answer.blocks, answer.bytes, answer.seconds, answer.done)

    def close(self) -> None:
        """End all connections, and the calls on them."""
        with self._turn:
            channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.close()

    def _stub(self, member: Member) -> tuple[ControlChannel, rpc.WorkerStub]:
        with self._turn:
            channel = self._channels.get(member.control_address)
            if channel is None:
                if len(self._channels) >= _CHANNELS_LIMIT:
                    for old in self._channels.values():
                        old.close()
                    self._channels.clear()
                channel = worker_channel(
                    member.control_address, self._token, timeout_seconds=CALL_SECONDS
                )
                self._channels[member.control_address] = channel
        return channel, rpc.WorkerStub(channel.channel)  # type: ignore[no-untyped-call]  # generated
