"""The door to the API server, over real HTTP to one of the tests."""

import pytest

from cachefs.errors import (
    ApiServerUnavailableError,
    ConfigError,
    ConflictError,
    DeniedError,
    NotKnownError,
)
from cachefs.k8s.cluster import open_cluster
from cachefs.k8s.kinds import CONFIG_MAPS, EVENTS, NAMESPACES, VOLUMES
from cachefs.k8s.names import DATASETS
from cachefs.testing.kubernetes import ApiServer
from cachefs.testing.kubernetes.faults import Fault
from cachefs.transport.runtime import ThreadRuntime


class Quick(ThreadRuntime):
    """Sleeps without sleeping; time goes by."""

    def __init__(self):
        super().__init__()
        self.slept = []
        self.skipped = 0.0

    def monotonic(self):
        return super().monotonic() + self.skipped

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.skipped += seconds


@pytest.fixture(scope="module")
def shared():
    with ApiServer(authorizing=True) as server:
        server.install({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
        yield server


@pytest.fixture
def server(shared):
    yield shared
    shared.heal()


@pytest.fixture
def cluster(server, tmp_path):
    return opened(server.kubeconfig(tmp_path / "config"))


def opened(path):
    cluster = open_cluster(path)
    cluster._calls.runtime = Quick()
    return cluster


def config_map(name, namespace="team", *, labels=None, **data):
    head = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": head, "data": data}


def test_what_is_created_is_found_changed_and_removed(cluster):
    made = cluster.create(config_map("a", one="1"))
    assert cluster.get(CONFIG_MAPS, "a", "team") == made
    with pytest.raises(ConflictError):
        cluster.create(config_map("a"))
    cluster.patch(CONFIG_MAPS, "a", "team", {"data": {"two": "2", "one": None}})
    found = cluster.get(CONFIG_MAPS, "a", "team")
    assert found["data"] == {"two": "2"}
    with pytest.raises(ConflictError):
        cluster.replace(made)
    cluster.replace({**found, "data": {"three": "3"}})
    cluster.delete(CONFIG_MAPS, "a", "team", uid="another")
    assert cluster.get(CONFIG_MAPS, "a", "team")["data"] == {"three": "3"}
    cluster.delete(CONFIG_MAPS, "a", "team", uid=made["metadata"]["uid"])
    assert cluster.get(CONFIG_MAPS, "a", "team") is None
    cluster.delete(CONFIG_MAPS, "a", "team")


def test_what_is_applied_is_so_and_what_others_said_stays(cluster):
    cluster.apply(config_map("b", ours="1", gone="1"))
    cluster.patch(CONFIG_MAPS, "b", "team", {"data": {"theirs": "1"}})
    applied = cluster.apply(config_map("b", ours="2"))
    assert applied["data"] == {"ours": "2", "theirs": "1"}


def test_lists_come_in_pages_and_say_what_they_are_lists_of(cluster, server, monkeypatch):
    monkeypatch.setattr("cachefs.k8s.cluster._PAGE", 2)
    for number in range(5):
        cluster.create(config_map(f"p{number}", labels={"which": "paged"}))
    found = cluster.find(CONFIG_MAPS, "team", labels={"which": "paged"})
    assert [one["metadata"]["name"] for one in found] == [f"p{number}" for number in range(5)]
    assert {one["kind"] for one in found} == {"ConfigMap"}
    assert len([path for _, _, path in server.calls if "continue=" in path]) >= 2


def test_pages_that_have_aged_away_are_read_in_one_piece(cluster, server, monkeypatch):
    monkeypatch.setattr("cachefs.k8s.cluster._PAGE", 1)
    for number in range(2):
        cluster.create(config_map(f"aged{number}", labels={"which": "aged"}))
    server.inject(Fault(verb="list", resource="configmaps", code=410))
    assert len(cluster.find(CONFIG_MAPS, "team", labels={"which": "aged"})) == 2


def test_a_watch_shows_what_follows_and_ends(cluster):
    listing = cluster.listing(CONFIG_MAPS, "team", labels={"which": "watched"})
    cluster.create(config_map("w", labels={"which": "watched"}))
    cluster.create(config_map("other"))
    cluster.delete(CONFIG_MAPS, "w", "team")
    changes = list(
        cluster.watch(
            CONFIG_MAPS, "team", labels={"which": "watched"}, since=listing.version, seconds=1
        )
    )
    seen = [one.what for one in changes if one.what != "BOOKMARK"]
    assert seen == ["ADDED", "DELETED"]
    assert int(changes[-1].version) > int(listing.version)


def test_a_watch_from_a_version_that_has_aged_away_wants_a_new_list(cluster, server):
    listing = cluster.listing(CONFIG_MAPS, "team")
    cluster.create(config_map("later"))
    server.compact()
    with pytest.raises(NotKnownError):
        list(cluster.watch(CONFIG_MAPS, "team", since=listing.version, seconds=1))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(verb="get", resource="configmaps", code=503),
        Fault(verb="get", resource="configmaps", code=500),
        Fault(verb="get", resource="configmaps", drop=True),
    ],
)
def test_what_can_be_repeated_is_repeated(cluster, server, fault):
    cluster.apply(config_map("r", one="1"))
    server.inject(fault)
    assert cluster.get(CONFIG_MAPS, "r", "team")["data"] == {"one": "1"}


def test_a_busy_server_says_how_long_to_wait(cluster, server):
    server.inject(Fault(verb="create", resource="configmaps", code=429, retry_after_seconds=7))
    cluster.create(config_map("busy"))
    assert 7.0 <= cluster._calls.runtime.slept[0] <= 7.5


def test_a_creation_whose_answer_was_lost_is_not_repeated(cluster, server):
    server.inject(Fault(verb="create", resource="configmaps", drop=True, after=True))
    with pytest.raises(ApiServerUnavailableError):
        cluster.create(config_map("lost"))
    assert cluster.get(CONFIG_MAPS, "lost", "team") is not None


def test_an_application_whose_answer_was_lost_is_repeated(cluster, server):
    server.inject(Fault(verb="patch", resource="configmaps", drop=True, after=True))
    assert cluster.apply(config_map("applied", a="1"))["data"] == {"a": "1"}


def test_who_is_busy_for_ever_is_given_up(cluster, server):
    server.inject(Fault(resource="configmaps", code=503, times=-1))
    with pytest.raises(ApiServerUnavailableError):
        cluster.find(CONFIG_MAPS, "team")
    assert sum(cluster._calls.runtime.slept) < 30.0


def test_nobody_there_is_an_error_and_not_a_wait_without_end(tmp_path):
    with ApiServer() as server:
        cluster = opened(server.kubeconfig(tmp_path / "config"))
    with pytest.raises(ApiServerUnavailableError):
        cluster.get(NAMESPACES, "team")


def test_who_may_not_is_told_so(server, tmp_path):
    cluster = opened(server.kubeconfig(tmp_path / "config", token=server.user("nobody")))
    with pytest.raises(DeniedError):
        cluster.get(CONFIG_MAPS, "a", "team")
    with pytest.raises(DeniedError):
        cluster.create(config_map("x"))


def test_what_the_server_does_not_take_or_know_is_said(cluster):
    with pytest.raises(ConfigError):
        cluster.create(config_map("Not A Name"))
    with pytest.raises(NotKnownError):
        cluster.find(DATASETS)
    with pytest.raises(ConfigError):
        cluster.create({"apiVersion": "v2", "kind": "Nothing", "metadata": {"name": "x"}})
    with pytest.raises(ConfigError):
        # Without a name, the path would be that of all of them.
        cluster.delete(CONFIG_MAPS, "", "team")


def test_an_event_is_told_beside_its_object(cluster):
    about = cluster.create(config_map("told"))
    cluster.tell(about, "Seen", "x" * 5000, warning=True)
    (event,) = [
        one
        for one in cluster.find(EVENTS, "team")
        if one["involvedObject"].get("uid") == about["metadata"]["uid"]
    ]
    assert (event["type"], event["reason"], len(event["message"])) == ("Warning", "Seen", 1024)


def test_an_event_about_what_has_no_namespace_is_kept_where_such_events_are(cluster):
    spec = {
        "capacity": {"storage": "1"},
        "accessModes": ["ReadOnlyMany"],
        "csi": {"driver": "cachefs.io", "volumeHandle": "x"},
    }
    about = cluster.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "pv"},
            "spec": spec,
        }
    )
    cluster.tell(about, "Made", "")
    assert [one["reason"] for one in cluster.find(EVENTS, "default")] == ["Made"]
    cluster.delete(VOLUMES, "pv")


def test_an_event_that_cannot_be_told_fails_nobody(cluster, server):
    about = cluster.create(config_map("untold"))
    server.inject(Fault(verb="create", resource="events", code=503))
    cluster.tell(about, "Seen", "")
    assert cluster._calls.runtime.slept == []


def test_a_kubeconfig_that_is_none_is_said(tmp_path):
    (tmp_path / "config").write_text("[]")
    with pytest.raises(ConfigError, match=f"^{tmp_path}/config: cannot tell"):
        open_cluster(tmp_path / "config")


def test_a_kubeconfig_that_is_no_yaml_is_said_in_one_line(tmp_path):
    (tmp_path / "config").write_text("a: b\nc: [\n")
    with pytest.raises(ConfigError) as raised:
        open_cluster(tmp_path / "config")
    assert raised.value.subject == f"{tmp_path}/config:3"
    assert "\n" not in str(raised.value)
