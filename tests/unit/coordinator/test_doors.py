"""The two doors show the same: the gRPC messages are filled from the HTTP API's bodies."""

import pytest

from cachefs.coordinator import bodies, warmbodies
from cachefs.wire.proto import cachefs_pb2 as pb


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (bodies.OriginBody, pb.OriginSpec),
        (bodies.DatasetBody, pb.Dataset),
        (bodies.VersionBody, pb.Version),
        (bodies.MemberBody, pb.Member),
        (warmbodies.WarmJobBody, pb.WarmJob),
        (bodies.EventBody, pb.Event),
    ],
)
def test_a_body_and_its_message_have_the_same_fields(body, message):
    fields = {field.name for field in message.DESCRIPTOR.fields}
    assert fields == set(body.model_fields)
