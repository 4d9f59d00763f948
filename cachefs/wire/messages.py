"""Between the domain's values and the messages of the control plane.

One function a direction and a type, and nothing else: what a message means is said in
``cachefs.proto``, what a value means in :mod:`cachefs.core`.
"""

from collections.abc import Iterable, Iterator

from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import OriginSpec
from cachefs.core.eviction import Retention
from cachefs.core.membership import Member, View
from cachefs.core.names import WorkerId
from cachefs.errors import ConfigError
from cachefs.wire.proto import cachefs_pb2 as pb

FILE_VERSION_BYTES = 20
"""Of a packed name: half of its digits."""


def member_to_message(member: Member) -> pb.Member:
    """Return a member as it travels."""
    return pb.Member(**{name: getattr(member, name) for name in Member.__dataclass_fields__})


def member_from_message(message: pb.Member) -> Member:
    """Return the member that was sent."""
    values = {name: getattr(message, name) for name in Member.__dataclass_fields__}
    return Member(**{**values, "worker": WorkerId(message.worker)})


def view_to_message(view: View) -> pb.View:
    """Return a view as it travels."""
    return pb.View(epoch=view.epoch, members=[member_to_message(one) for one in view.members])


def view_from_message(message: pb.View) -> View:
    """Return the view that was sent."""
    return View(int(message.epoch), tuple(member_from_message(one) for one in message.members))


def origin_to_message(origin: OriginSpec) -> pb.OriginSpec:
    """Return an origin's spec as it travels; it holds no secret."""
    return pb.OriginSpec(url=origin.url, options=dict(origin.options))


def origin_from_message(message: pb.OriginSpec) -> OriginSpec:
    """Return the origin's spec that was sent."""
    return OriginSpec(message.url, dict(message.options))


def retention_to_message(retention: Retention) -> pb.Pins:
    """Return what people decided about keeping, as it travels."""
    by_seconds: dict[float, list[FileVersionId]] = {}
    for file_version, seconds in retention.ttls.items():
        by_seconds.setdefault(seconds, []).append(file_version)
    return pb.Pins(
        revision=retention.revision,
        pinned=pack_file_versions(sorted(retention.pinned)),
        ttls=[
            pb.TimeToLive(seconds=seconds, file_versions=pack_file_versions(names))
            for seconds, names in by_seconds.items()
        ],
    )


def retention_from_message(message: pb.Pins) -> Retention:
    """Return the decision that was sent.

    Raises:
        ConfigError: The file versions in it are not whole.
    """
    ttls = {
        name: each.seconds
        for each in message.ttls
        for name in unpack_file_versions(each.file_versions)
    }
    pinned = frozenset(unpack_file_versions(message.pinned))
    return Retention(pinned, ttls, int(message.revision))


def pack_file_versions(names: Iterable[FileVersionId]) -> bytes:
    """Return names of file versions in half the space; each must be one, of 40 digits."""
    return bytes.fromhex("".join(names))


def unpack_file_versions(packed: bytes) -> Iterator[FileVersionId]:
    """Yield the names that were packed.

    Raises:
        ConfigError: They are not whole.
    """
    if len(packed) % FILE_VERSION_BYTES:
        raise ConfigError("file versions of the wrong length")
    for at in range(0, len(packed), FILE_VERSION_BYTES):
        yield FileVersionId(packed[at : at + FILE_VERSION_BYTES].hex())
