"""Between the domain's values and the messages of the control plane.

One function a direction and a type, and nothing else: what a message means is said in
``cachefs.proto``, what a value means in :mod:`cachefs.core`.
"""

from cachefs.core.datasets import OriginSpec
from cachefs.core.membership import Member, View
from cachefs.core.names import WorkerId
from cachefs.wire.proto import cachefs_pb2 as pb


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
