"""The rules of the interface's public test suite, each as a row: what is asked, and the status of the answer."""

import grpc
import pytest

from cachefs.k8s.csi.proto import csi_pb2 as csi
from cachefs.k8s.csi.proto import csi_pb2_grpc as rpc
from tests.fuse.mounting import FILES, why_no_mounts, write_files
from tests.integration.k8s.nodes import SECONDS, Node, capability
from tests.integration.systems import System, wait_for

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_no_mounts()), reason=why_no_mounts() or "mounts are possible"),
]

STATUS = grpc.StatusCode
WRITER, READER = "SINGLE_NODE_WRITER", "MULTI_NODE_READER_ONLY"
PARAMETERS = {"dataset": "default/model"}
SIZE = 10 * 1024**3
UNKNOWN = "fake-vol-id-7b1f"
"""As the suite invents them."""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("system")
    with System(folder) as system:
        system.start_coordinator()
        system.start_worker("worker-1")
        system.wait_for_members("worker-1")
        system.add("model", write_files(folder / "origin", FILES))
        with Node(system) as made:
            made.start_driver()
            made.wait_for_driver()
            made.start_mounts()
            made.wait_until_serving()
            yield made


class Calls:
    """The three services over one channel, each call with a time limit."""

    def __init__(self, channel):
        self._stubs = [
            rpc.IdentityStub(channel),
            rpc.ControllerStub(channel),
            rpc.NodeStub(channel),
        ]

    def __call__(self, request):
        name = type(request).__name__.removesuffix("Request")
        call = next(filter(None, (getattr(stub, name, None) for stub in self._stubs)))
        return call(request, timeout=SECONDS)

    def status(self, request):
        try:
            self(request)
        except grpc.RpcError as error:
            return error.code()
        return STATUS.OK


@pytest.fixture
def calls(node):
    with node.channel() as channel:
        yield Calls(channel)


def create(name="sanity", *, modes=(WRITER,), size=SIZE, limit=0, parameters=PARAMETERS, **more):
    return csi.CreateVolumeRequest(
        name=name,
        capacity_range=csi.CapacityRange(required_bytes=size, limit_bytes=limit),
        volume_capabilities=[capability(mode) for mode in modes],
        parameters=parameters,
        **more,
    )


TARGET = "/TARGETS/sanity/target"
BLOCK = capability(WRITER, block=True)
NO_KIND = csi.VolumeCapability(access_mode=csi.VolumeCapability.AccessMode(mode=WRITER))
NO_MODE = csi.VolumeCapability(mount=csi.VolumeCapability.MountVolume())
ODD_FLAG = csi.VolumeCapability(
    mount=csi.VolumeCapability.MountVolume(mount_flags=["exec"]),
    access_mode=csi.VolumeCapability.AccessMode(mode=READER),
)
SOURCE = csi.VolumeContentSource(volume=csi.VolumeContentSource.VolumeSource(volume_id="x"))
publish, unpublish = csi.NodePublishVolumeRequest, csi.NodeUnpublishVolumeRequest
stats, validate = csi.NodeGetVolumeStatsRequest, csi.ValidateVolumeCapabilitiesRequest
RULES = [
    ("a volume needs a name", create(""), STATUS.INVALID_ARGUMENT),
    ("a volume needs capabilities", create(modes=()), STATUS.INVALID_ARGUMENT),
    ("a volume needs a dataset", create(parameters={}), STATUS.INVALID_ARGUMENT),
    ("the dataset must be there", create(parameters={"dataset": "no/such"}), STATUS.NOT_FOUND),
    ("sockets are no volume", create(parameters={"use": "sockets"}), STATUS.INVALID_ARGUMENT),
    ("a limit is not below a need", create(size=2, limit=1), STATUS.INVALID_ARGUMENT),
    ("sizes are not negative", create(size=-1), STATUS.INVALID_ARGUMENT),
    ("a name of 128 bytes will do", create("n" * 128), STATUS.OK),
    ("a name of 129 bytes will not", create("n" * 129), STATUS.INVALID_ARGUMENT),
    ("nothing is cloned", create(volume_content_source=SOURCE), STATUS.INVALID_ARGUMENT),
    ("a deletion needs an id", csi.DeleteVolumeRequest(), STATUS.INVALID_ARGUMENT),
    ("what is not there is deleted", csi.DeleteVolumeRequest(volume_id="reallyfake"), STATUS.OK),
    ("ids are no paths", csi.DeleteVolumeRequest(volume_id="dataset-../../x"), STATUS.OK),
    ("a confirmation needs an id", validate(), STATUS.INVALID_ARGUMENT),
    (
        "a confirmation needs capabilities",
        validate(volume_id=UNKNOWN),
        STATUS.INVALID_ARGUMENT,
    ),
    (
        "an unknown volume is not confirmed",
        validate(volume_id=UNKNOWN, volume_capabilities=[capability(WRITER)]),
        STATUS.NOT_FOUND,
    ),
    ("publishing needs an id", publish(), STATUS.INVALID_ARGUMENT),
    ("publishing needs a target", publish(volume_id=UNKNOWN), STATUS.INVALID_ARGUMENT),
    (
        "publishing needs a capability",
        publish(volume_id=UNKNOWN, target_path=TARGET),
        STATUS.INVALID_ARGUMENT,
    ),
    *(
        (
            f"publishing refuses {what}",
            publish(
                volume_id=UNKNOWN,
                target_path=TARGET,
                volume_capability=wrong,
                volume_context=PARAMETERS,
            ),
            STATUS.INVALID_ARGUMENT,
        )
        for what, wrong in (
            ("block devices", BLOCK),
            ("no kind of access", NO_KIND),
            ("no mode of access", NO_MODE),
            ("options that would change something", ODD_FLAG),
        )
    ),
    (
        "publishing needs attributes",
        publish(volume_id=UNKNOWN, target_path=TARGET, volume_capability=capability(READER)),
        STATUS.INVALID_ARGUMENT,
    ),
    (
        "an id has at most 128 bytes",
        publish(volume_id="v" * 129, target_path=TARGET, volume_capability=capability(READER)),
        STATUS.INVALID_ARGUMENT,
    ),
    ("unpublishing needs an id", unpublish(), STATUS.INVALID_ARGUMENT),
    ("unpublishing needs a target", unpublish(volume_id=UNKNOWN), STATUS.INVALID_ARGUMENT),
    (
        "what is not published is unpublished",
        unpublish(volume_id=UNKNOWN, target_path=TARGET),
        STATUS.OK,
    ),
    ("sizes need an id", stats(volume_path="some/path"), STATUS.INVALID_ARGUMENT),
    ("sizes need a path", stats(volume_id=UNKNOWN), STATUS.INVALID_ARGUMENT),
    (
        "sizes of nothing are not found",
        stats(volume_id=UNKNOWN, volume_path="some/path"),
        STATUS.NOT_FOUND,
    ),
    (
        "sizes of what is not published are not found",
        stats(volume_id=UNKNOWN, volume_path=TARGET),
        STATUS.NOT_FOUND,
    ),
]


@pytest.mark.parametrize(
    ("request_", "status"), [row[1:] for row in RULES], ids=[r[0] for r in RULES]
)
def test_a_call_is_answered_as_the_rule_says(node, calls, request_, status):
    copy = type(request_)()
    copy.CopyFrom(request_)
    for field in ("target_path", "volume_path"):
        if getattr(copy, field, "").startswith("/TARGETS"):
            setattr(copy, field, getattr(copy, field).replace("/TARGETS", str(node.targets)))
    assert calls.status(copy) is status


def test_the_driver_says_what_it_is_and_can(calls):
    info = calls(csi.GetPluginInfoRequest())
    assert (info.name, bool(info.vendor_version)) == ("cachefs.io", True)
    (able,) = calls(csi.GetPluginCapabilitiesRequest()).capabilities
    assert able.service.type == csi.PluginCapability.Service.CONTROLLER_SERVICE
    wait_for(lambda: calls(csi.ProbeRequest()).ready.value)
    (control,) = calls(csi.ControllerGetCapabilitiesRequest()).capabilities
    assert control.rpc.type == csi.ControllerServiceCapability.RPC.CREATE_DELETE_VOLUME
    able = {each.rpc.type for each in calls(csi.NodeGetCapabilitiesRequest()).capabilities}
    kinds = csi.NodeServiceCapability.RPC
    assert able == {kinds.GET_VOLUME_STATS, kinds.VOLUME_CONDITION}
    node = calls(csi.NodeGetInfoRequest())
    assert (node.node_id, node.max_volumes_per_node) == ("node-1", 0)


@pytest.mark.parametrize("name", ["NodeStageVolume", "NodeExpandVolume", "NodeUnstageVolume"])
def test_a_call_that_we_do_not_have_is_not_implemented(node, name):
    with node.channel() as channel:
        call = channel.unary_unary(f"/csi.v1.Node/{name}")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=SECONDS)
    assert caught.value.code() is STATUS.UNIMPLEMENTED


def test_a_volume_is_made_once_and_of_one_kind(calls):
    made = calls(create("twice")).volume
    assert made.volume_id
    assert made.capacity_bytes >= SIZE
    assert dict(made.volume_context) == PARAMETERS
    assert calls(create("twice")).volume == made
    assert calls.status(create("twice", size=2 * SIZE)) is STATUS.ALREADY_EXISTS
    other = {"dataset": "model", "path": "tokenizer"}
    assert calls.status(create("twice", parameters=other)) is STATUS.ALREADY_EXISTS
    for _ in range(2):
        calls(csi.DeleteVolumeRequest(volume_id=made.volume_id))
    assert calls(create("twice", size=2 * SIZE)).volume.volume_id == made.volume_id


def test_only_reading_is_confirmed(calls):
    made = calls(create("confirm")).volume

    def confirmed(*modes, **more):
        asked = [capability(mode) for mode in modes]
        answer = calls(validate(volume_id=made.volume_id, volume_capabilities=asked, **more))
        assert bool(answer.message) is not answer.HasField("confirmed")
        return answer.HasField("confirmed")

    assert confirmed(READER, "SINGLE_NODE_READER_ONLY", volume_context=made.volume_context)
    assert not confirmed(READER, WRITER)
    assert not confirmed("MULTI_NODE_MULTI_WRITER")
    assert not confirmed(READER, volume_context={"dataset": "other"})


@pytest.mark.parametrize("times", [1, 5])
def test_the_way_of_a_volume_from_beginning_to_end(node, calls, times):
    made = calls(create(f"whole-{times}")).volume
    target = str(node.targets / "target")
    for _ in range(times):
        calls(
            publish(
                volume_id=made.volume_id,
                target_path=target,
                volume_capability=capability(WRITER),
                volume_context=made.volume_context,
            )
        )
    assert node.seen(target).exists()
    answer = calls(stats(volume_id=made.volume_id, volume_path=target))
    assert len(answer.usage) == 2
    assert not answer.volume_condition.abnormal
    wrong = stats(volume_id=made.volume_id, volume_path="some/path")
    assert calls.status(wrong) is STATUS.NOT_FOUND
    for _ in range(times):
        calls(unpublish(volume_id=made.volume_id, target_path=target))
    assert not node.seen(target).exists()
    calls(csi.DeleteVolumeRequest(volume_id=made.volume_id))
