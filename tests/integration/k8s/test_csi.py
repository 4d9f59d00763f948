"""The CSI driver and the node's mount: real processes in namespaces, real mounts, the kubelet's real calls."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest

from cachefs.k8s.csi.proto import csi_pb2 as csi
from cachefs.k8s.csi.proto import registration_pb2 as registration
from cachefs.k8s.csi.proto import registration_pb2_grpc
from tests.fuse.mounting import FILES, LARGE, content, why_no_mounts, write_files
from tests.integration.k8s.nodes import SECONDS, Node, Reader, now
from tests.integration.systems import RUNTIME, System, wait_for

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_no_mounts()), reason=why_no_mounts() or "mounts are possible"),
]

ASKS = """
import os, sys
for line in sys.stdin:
    try:
        os.statvfs(sys.argv[1])  # is asked of the mount every time
        print(os.stat(sys.argv[1]).st_size, flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""
DIGEST = hashlib.sha256(FILES[LARGE]).hexdigest()
MODEL = {"dataset": "model"}
POD = "csi.storage.k8s.io/pod.namespace"
INLINE = "csi-" + "ab" * 32
STATUS = grpc.StatusCode


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("system")
    with System(folder) as made:
        made.start_coordinator()
        made.start_worker("worker-1")
        made.wait_for_members("worker-1")
        made.add("model", write_files(folder / "origin", FILES))
        made.add("moving", write_files(folder / "moving", {"file": content("old", 50_000)}))
        yield made


@pytest.fixture(scope="module")
def node(system):
    """A node with both daemon sets' pods; whoever breaks one of them mends it."""
    with Node(system) as made:
        made.driver = made.start_driver()
        made.wait_for_driver()
        made.mounts = made.start_mounts()
        made.wait_until_serving()
        yield made


@pytest.fixture
def target(node, request):
    """A pod's target, at which nothing is left."""
    pod = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    place = node.target(pod)
    yield place
    for volume in ("v1", INLINE):
        node.unpublish(volume, place)
    assert node.mounted(place) == []


@pytest.fixture
def reading(node):
    """Start applications that read; end them."""
    made = []

    def start(*words, **options):
        process = node.start_application(*words, **options)
        made.append(process)
        return Reader(process)

    yield start
    for process in made:
        process.kill()
        process.communicate()


def refused(call, *arguments, **options):
    """Return the status with which a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return caught.value.code()


# ---- publishing ---------------------------------------------------------------------------------


def test_pods_read_what_they_asked_for_and_can_change_nothing(node, target):
    other = node.target("other-pod")
    node.publish("v1", target, MODEL)
    node.publish("v1", target, MODEL)  # again: no failure, and no second mount
    node.publish(INLINE, other, {"dataset": "model", "path": "tokenizer", POD: "default"})
    try:
        assert len(node.mounted(target)) == 1
        for name, data in FILES.items():
            assert node.seen(target / name).read_bytes() == data
        assert os.listdir(node.seen(other)) == ["vocab.txt"]  # noqa: PTH208 - a mount
        (entry,) = node.mounted(target)
        assert {"ro", "nosuid", "nodev", "noexec"} <= entry.options
        with pytest.raises(OSError) as caught:
            node.seen(target / "new").write_bytes(b"")
        assert caught.value.errno == errno.EROFS
        usage = {each.unit: each for each in node.stats("v1", target).usage}
        assert usage[csi.VolumeUsage.BYTES].total >= sum(map(len, FILES.values()))
    finally:
        for _ in range(2):
            node.unpublish(INLINE, other)
    assert not node.seen(other).exists()


def test_a_pod_keeps_its_version_and_a_new_one_gets_the_new_one(node, system, target):
    before = content("old", 50_000)
    node.publish("v1", target, {"dataset": "moving"})
    follower, later = node.target("follower"), node.target("later")
    node.publish("v2", follower, {"dataset": "moving", "followCurrent": "true"})
    try:
        assert node.seen(follower / "file").read_bytes() == before
        origin = system.folder.parent / "moving" / "file"
        origin.write_bytes(content("new", 60_000))
        system.api.post("/v1/datasets/default/moving/update")
        node.publish("v3", later, {"dataset": "moving"})
        assert node.seen(later / "file").read_bytes() == content("new", 60_000)
        wait_for(lambda: node.seen(follower / "file").read_bytes() == content("new", 60_000))
        (entry,) = node.mounted(target)
        # As after a restart of the machine: the state is there, the mount is not.
        subprocess.run(
            ["nsenter", "-t", str(node._host.pid), "-m", "umount", "-l", target], check=True
        )
        node.publish("v1", target, {"dataset": "moving"})
        assert [each.root for each in node.mounted(target)] == [entry.root]
    finally:
        node.unpublish("v2", follower)
        node.unpublish("v3", later)


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ({"dataset": "nothing"}, STATUS.NOT_FOUND),
        ({"dataset": "model", "version": "ffffffff"}, STATUS.NOT_FOUND),
        ({"dataset": "model", "path": "nothing"}, STATUS.NOT_FOUND),
        ({"dataset": "model", "path": "config.json"}, STATUS.NOT_FOUND),
        ({"dataset": "model", "path": "../moving"}, STATUS.INVALID_ARGUMENT),
        ({"dataset": "../../.."}, STATUS.INVALID_ARGUMENT),
        ({"dataset": "default/model", POD: "somebody"}, STATUS.PERMISSION_DENIED),
        ({"use": "sockets"}, STATUS.PERMISSION_DENIED),
        ({"use": "sockets", POD: "default"}, STATUS.PERMISSION_DENIED),
    ],
)
def test_what_cannot_or_may_not_be_leaves_nothing(node, target, attributes, status):
    assert refused(node.publish, "v1", target, attributes) is status
    assert node.mounted(target) == []
    assert not list(node.places.published.glob("*.partial"))
    assert str(target) not in "".join(
        each.read_text() for each in node.places.published.glob("*.json")
    )


def test_nobody_gets_out_of_the_kubelets_folder(node, target):
    outside = node.folder / "outside"
    (outside / "deeper").mkdir(parents=True)
    pod = target.parent
    for place in (
        outside / "mount",
        "/etc/mount",
        f"{node.targets}/../outside/mount",
        f"{pod}/./mount",
        f"{pod}/mount/",
        "relative/mount",
        node.targets,
        node.folder,
    ):
        assert refused(node.publish, "v1", place, MODEL) is STATUS.INVALID_ARGUMENT
        assert refused(node.unpublish, "v1", place) is STATUS.INVALID_ARGUMENT
    # A link in the way, to where we shall not mount, however it came there.
    link = node.targets / "linked"
    link.symlink_to(outside)
    target.symlink_to(outside)
    try:
        for place in (link / "mount", link / "deeper/mount", link / "deeper"):
            assert refused(node.publish, "v1", place, MODEL) is STATUS.INVALID_ARGUMENT
        assert refused(node.publish, "v1", target, MODEL) is STATUS.INVALID_ARGUMENT
        for place in (link / "mount", link / "deeper/mount", link / "deeper"):
            assert refused(node.unpublish, "v1", place) is STATUS.INVALID_ARGUMENT
    finally:
        link.unlink()
        target.unlink()
    assert [str(each.relative_to(outside)) for each in outside.rglob("*")] == ["deeper"]
    assert not [each for each in node.table() if each.mountpoint.is_relative_to(outside)]


def test_another_volume_or_another_mount_at_a_target_is_left_alone(node, target):
    node.publish("v1", target, MODEL)
    assert refused(node.publish, "v9", target, MODEL) is STATUS.ALREADY_EXISTS
    assert refused(node.publish, "v1", target, {**MODEL, "path": "tokenizer"}) is (
        STATUS.ALREADY_EXISTS
    )
    node.unpublish("v9", target)
    assert len(node.mounted(target)) == 1
    foreign = node.target("foreign")
    foreign.mkdir()
    inside = ["nsenter", "-t", str(node._host.pid), "-m"]
    subprocess.run([*inside, "mount", "-t", "tmpfs", "none", foreign], check=True)
    try:
        assert refused(node.publish, "v2", foreign, MODEL) is STATUS.ALREADY_EXISTS
        assert refused(node.unpublish, "v2", foreign) is STATUS.ALREADY_EXISTS
        assert len(node.mounted(foreign)) == 1
    finally:
        subprocess.run([*inside, "umount", foreign], check=True)
    # Likewise on top of what is ours.
    subprocess.run([*inside, "mount", "-t", "tmpfs", "none", target], check=True)
    try:
        assert refused(node.publish, "v1", target, MODEL) is STATUS.ALREADY_EXISTS
    finally:
        subprocess.run([*inside, "umount", target], check=True)


def test_a_workers_socket_is_where_the_mounts_pod_looks_for_it(node, system):
    system.start_worker("worker-2", socket_folder=str(node.places.sockets))
    try:
        system.wait_for_members("worker-1", "worker-2")
        members = system.api.get("/v1/view")["members"]
        (path,) = [each["socket_path"] for each in members if each["worker"] == "worker-2"]
        assert path == str(node.places.sockets / "worker-2/socket/worker")
        assert os.path.exists(path)  # noqa: PTH110 - a socket's path
    finally:
        system.kill("worker-2")
        system.wait_for_members("worker-1")


def test_workers_have_a_folder_in_common_with_the_mount(node, target):
    one = node.target("worker-1")
    for place in (target, one):
        node.publish("v1", place, {"use": "sockets", POD: "cachefs"})
    try:
        node.seen(one / "worker").write_bytes(b"here")
        assert node.seen(target / "worker").read_bytes() == b"here"
        assert (node.places.sockets / "worker").read_bytes() == b"here"
    finally:
        node.unpublish("v1", one)
        (node.places.sockets / "worker").unlink(missing_ok=True)
    assert node.places.sockets.exists()


# ---- processes that die -------------------------------------------------------------------------


def restart_mounts(node, number=signal.SIGKILL):
    node.end(node.mounts, number)
    began = now()
    node.mounts = node.start_mounts()
    node.wait_until_serving(since=began)


def restart_driver(node):
    node.end(node.driver)
    began = now()
    node.driver = node.start_driver()
    node.wait_for_driver()
    node.wait_until_serving(since=began)


def test_programs_read_on_whichever_pod_dies_and_whenever_one_is_replaced(node, target, reading):
    node.publish("v1", target, MODEL)
    (entry,) = node.mounted(target)
    reader = reading(target, LARGE)
    assert reader.digest == DIGEST
    reader.wait_for_rounds()
    restart_mounts(node)
    reader.wait_for_rounds()
    restart_driver(node)
    reader.wait_for_rounds()
    restart_mounts(node, signal.SIGTERM)
    reader.wait_for_rounds()
    # The new pod comes before the old one goes.
    old, began = node.mounts, now()
    node.mounts = node.start_mounts()
    wait_for(lambda: "another keeper takes the mount over" in node.log(), SECONDS, what=node.log)
    node.wait_until_serving(since=began)
    reader.wait_for_rounds()
    node.end(old, signal.SIGTERM)
    reader.wait_for_rounds()
    assert node.mounted(target) == [entry]
    node.publish("v1", target, MODEL)
    assert node.mounted(target) == [entry]


def test_a_read_that_waits_is_answered_by_the_next_pod(node, target):
    node.publish("v1", target, MODEL)
    node.end(node.mounts)
    program = (
        "import sys, hashlib; print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())"
    )
    waiting = node.start_application(target, "tokenizer/vocab.txt", program=program)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    began = now()
    node.mounts = node.start_mounts()
    node.wait_until_serving(since=began)
    said, _ = waiting.communicate(timeout=SECONDS)
    assert said.strip() == hashlib.sha256(FILES["tokenizer/vocab.txt"]).hexdigest()


def test_a_frozen_mount_delays_nobody_who_is_not_reading(node, target):
    node.publish("v1", target, MODEL)
    frozen = node.everything_of(node.mounts)
    other = node.target("late")
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = now()
        answer = node.stats("v1", target)
        assert answer.volume_condition.abnormal
        node.unpublish("v1", target)
        assert node.mounted(target) == []
        status = refused(node.publish, "v2", other, {**MODEL, "path": "tokenizer"}, seconds=4)
        assert status is STATUS.DEADLINE_EXCEEDED
        node.unpublish("v2", other)
        assert now() - began < 15
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    node.publish("v1", target, MODEL)
    assert node.seen(target / "config.json").read_bytes() == FILES["config.json"]


def test_a_mount_that_nobody_takes_over_is_given_up_and_everything_is_bound_anew(system):
    def read_by(application):
        application.stdin.write("\n")
        application.stdin.flush()
        return int(application.stdout.readline())

    whole = len(FILES[LARGE])
    lost = (errno.ENOTCONN, errno.ECONNABORTED)
    with Node(system) as node:
        node.start_driver("--give-up-seconds", "2")
        node.wait_for_driver()
        target = node.target("pod")
        applications = {}
        for turn in range(2):
            mounts = node.start_mounts()
            node.wait_until_serving(since=now())
            if turn == 0:
                node.publish("v1", target, MODEL)
                for kind in ("slave", "private"):
                    applications[kind] = node.start_application(
                        target, LARGE, propagation=kind, program=ASKS
                    )
            wait_for(lambda: _reads(node, target), SECONDS, what=node.log)
            assert read_by(applications["slave"]) == whole
            assert (read_by(applications["private"]) == whole) is (turn == 0)
            assert {"ro", "nosuid", "nodev"} <= node.mounted(target)[-1].options
            node.end(mounts)
            with pytest.raises(OSError) as caught:
                os.statvfs(node.seen(target))
            assert caught.value.errno in lost
            assert read_by(applications["private"]) in lost
        assert len(node.mounted(target)) == 2
        node.unpublish("v1", target)
        assert node.mounted(target) == []


def test_a_keeper_that_gives_up_has_the_shelf_let_go_and_the_next_pod_mounts_anew(system):
    with Node(system, CACHEFS_READER__DEADLINE_SECONDS="2s") as node:
        node.start_driver()
        node.wait_for_driver()
        mounts = node.start_mounts()
        node.wait_until_serving()
        target = node.target("pod")
        node.publish("v1", target, MODEL)
        (node.places.mount_run / "plan.json").write_text("not a plan")
        record = json.loads((node.places.mount_run / "mount.json").read_text())
        first = node.first_of(mounts)
        (server,) = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        assert record["server"] is not None
        os.kill(int(server), signal.SIGKILL)
        with pytest.raises(OSError) as caught:
            node.seen(target / LARGE).read_bytes()
        assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        assert mounts.wait(SECONDS) == 1
        node.start_mounts()
        wait_for(lambda: _reads(node, target), SECONDS, what=node.log)


def _reads(node, target):
    try:
        return node.seen(target / LARGE).read_bytes() == FILES[LARGE]
    except OSError:
        return False


def test_both_pods_may_be_replaced_at_once_because_one_waits_for_the_other(node, target, reading):
    node.publish("v1", target, MODEL)
    reader = reading(target, LARGE)

    def wants_to_leave(who):
        command = [sys.executable, "-m", "cachefs.k8s.csi.leaving", who, *map(str, node.words())]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    restart = {"driver": restart_driver, "mounts": restart_mounts}
    leaving = {who: wants_to_leave(who) for who in restart}
    try:
        wait_for(lambda: any(each.poll() is not None for each in leaving.values()))
        RUNTIME.sleep(1.0)
        (first,) = [who for who, each in leaving.items() if each.poll() is not None]
        restart[first](node)
        reader.wait_for_rounds()
        (second,) = set(leaving) - {first}
        wait_for(lambda: leaving[second].poll() is not None, SECONDS, what=node.log)
        restart[second](node)
        reader.wait_for_rounds()
        wait_for(lambda: not node.places.leaving.exists())
    finally:
        for each in leaving.values():
            each.kill()
            each.wait()


# ---- what the kubelet and its probes do ---------------------------------------------------------


@pytest.mark.parametrize("authority", ["localhost", "PATH", "ESCAPED"])
def test_the_kubelet_finds_the_driver_as_it_finds_any(node, authority):
    # What a client in Go calls us depends on its version: the socket's path, as it is or escaped.
    path = str(node.places.registration)
    name = {"PATH": path, "ESCAPED": quote(path, safe="")}.get(authority, authority)
    options = [("grpc.default_authority", name)]
    with grpc.insecure_channel(f"unix:{node.places.registration}", options=options) as channel:
        stub = registration_pb2_grpc.RegistrationStub(channel)
        found = stub.GetInfo(registration.InfoRequest(), timeout=SECONDS)
        assert (found.type, found.name) == ("CSIPlugin", "cachefs.io")
        assert found.endpoint == str(node.places.socket)
        assert list(found.supported_versions) == ["1.0.0"]
        stub.NotifyRegistrationStatus(
            registration.RegistrationStatus(plugin_registered=True), timeout=SECONDS
        )
    for path in (node.places.socket, node.places.registration):
        assert not path.stat().st_mode & 0o077


def test_a_driver_that_the_kubelet_refuses_ends(node):
    with grpc.insecure_channel(f"unix:{node.places.registration}") as channel:
        registration_pb2_grpc.RegistrationStub(channel).NotifyRegistrationStatus(
            registration.RegistrationStatus(plugin_registered=False, error="no"), timeout=SECONDS
        )
    assert node.driver.wait(SECONDS) == 1
    restart_driver(node)


def test_probes_see_how_the_mount_is(node):
    def well(*words):
        command = [sys.executable, "-m", "cachefs.k8s.csi.well", "mounts", *words]
        done = subprocess.run(
            [*command, *map(str, node.words())], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr

    assert well("--serving") == (0, "")
    sign = node.places.sign.read_text()
    node.end(node.mounts)
    node.places.sign.write_text('{"at": 0, "serving": true, "kept": true, "number": ""}')
    code, said = well()
    assert code == 1
    assert "old" in said
    node.places.sign.write_text(sign.replace("true", "false", 1))
    assert well("--serving") == (1, "nobody serves\n")
    began = now()
    node.mounts = node.start_mounts()
    node.wait_until_serving(since=began)
    assert well("--serving") == (0, "")
