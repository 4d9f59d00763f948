"""What pods are given, and that nothing of theirs is lost."""

import copy

import kubernetes_validate
import pytest

from cachefs.errors import ConfigError
from cachefs.hints.consumers.pods import question_of
from cachefs.k8s.webhook.injecting import Mode
from tests.unit.k8s.webhook.pods import injected, pod, volume

MODES = [each.value for each in Mode]
NAMED = {"cachefs.io/datasets": "team-a/llama@v2"}
USERS = [
    {"name": "setup", "image": "busybox", "volumeMounts": [{"name": "model", "mountPath": "/m"}]}
]


def by_name(rows):
    return {each["name"]: each for each in rows}


def without_ours(made):
    """Return the names of what the user had, in its order."""
    spec = made["spec"]
    return {
        key: [each["name"] for each in spec.get(key, ()) if not each["name"].startswith("cachefs-")]
        for key in ("initContainers", "containers", "volumes")
    }


def restricted_faults(made):
    """Yield what Pod Security's level ``restricted`` says against a pod's containers and volumes."""
    spec = made["spec"]
    if spec.get("hostNetwork") or spec.get("hostPID") or spec.get("hostIPC"):
        yield "host"
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for each in spec.get("volumes", ()):
        if not allowed & each.keys():
            yield f"volume {each['name']}"
    for each in [*spec.get("initContainers", ()), *spec["containers"]]:
        own = each.get("securityContext", {})
        if own.get("privileged"):
            yield f"{each['name']}: privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{each['name']}: escalation"
        if own.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"{each['name']}: capabilities"
        if own.get("runAsNonRoot") is not True or own.get("runAsUser") == 0:
            yield f"{each['name']}: root"
        if own.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{each['name']}: seccomp"


@pytest.mark.parametrize("mode", MODES)
def test_what_comes_out_is_a_pod(mode):
    made, _ = injected(pod(mode, NAMED, initContainers=copy.deepcopy(USERS)))
    made["metadata"]["namespace"] = "team-a"
    kubernetes_validate.validate(made, "1.32", strict=True)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_the_users_stays_in_its_order(mode):
    before = pod(mode, NAMED, initContainers=copy.deepcopy(USERS))
    before["spec"]["volumes"].append({"name": "scratch", "emptyDir": {}})
    before["spec"]["containers"].append({"name": "second", "image": "x", "env": [{"name": "A"}]})
    after, _ = injected(before)
    assert without_ours(after) == without_ours(before)
    for kind in ("initContainers", "containers"):
        for old in before["spec"][kind]:
            new = by_name(after["spec"][kind])[old["name"]]
            assert old["image"] == new["image"]
            assert new.get("env", [])[: len(old.get("env", []))] == old.get("env", [])
            paths = [each["mountPath"] for each in new.get("volumeMounts", ())]
            assert paths[: len(old.get("volumeMounts", ()))] == [
                each["mountPath"] for each in old.get("volumeMounts", ())
            ]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["metadata"]["annotations"]["cachefs.io/datasets"] == "team-a/llama@v2"


@pytest.mark.parametrize("mode", MODES)
def test_a_pod_that_was_injected_into_is_left_alone(mode):
    once, _ = injected(pod(mode, NAMED))
    twice, warnings = injected(once)
    assert twice == once
    assert warnings == []
    assert once["metadata"]["annotations"]["cachefs.io/injected"] == mode


@pytest.mark.parametrize("mode", ["files", "endpoint"])
def test_what_we_add_meets_the_level_restricted(mode):
    made, _ = injected(pod(mode, NAMED))
    ours = {
        **made,
        "spec": {
            **made["spec"],
            "containers": [
                each for each in made["spec"]["containers"] if each["name"].startswith("cachefs-")
            ],
        },
    }
    assert ours["spec"]["initContainers"]
    assert list(restricted_faults(ours)) == []


def test_a_mount_by_a_sidecar_needs_privilege_and_says_so():
    made, _ = injected(pod("sidecar"))
    assert any("privileged" in each for each in restricted_faults(made))


def test_files_are_copied_before_anything_of_the_users_runs():
    made, _ = injected(pod("files", initContainers=copy.deepcopy(USERS)))
    assert [each["name"] for each in made["spec"]["initContainers"]] == ["cachefs-copy", "setup"]
    copying = made["spec"]["initContainers"][0]
    assert "restartPolicy" not in copying
    assert copying["command"][-1] == "team-a/llama=/cachefs/model"
    assert by_name(made["spec"]["volumes"])["model"] == {"name": "model", "emptyDir": {}}


def test_every_dataset_is_copied_at_the_version_and_folder_that_its_volume_names():
    volumes = [
        volume("a", "llama", version="v2"),
        volume("b", "shared/tokens", path="train"),
        {"name": "c", "persistentVolumeClaim": {"claimName": "qwen"}},
        {"name": "other", "persistentVolumeClaim": {"claimName": "results"}},
        {
            "name": "sockets",
            "csi": {"driver": "cachefs.io", "volumeAttributes": {"use": "sockets"}},
        },
    ]
    annotations = {"cachefs.io/datasets": "team-a/qwen@v3, default/extra@v1=/models/extra"}
    made, _ = injected(pod("files", annotations, volumes=volumes))
    assert made["spec"]["initContainers"][0]["command"][3:] == [
        "team-a/llama@v2=/cachefs/a",
        "shared/tokens/train=/cachefs/b",
        "team-a/qwen@v3=/cachefs/c",
        "default/extra@v1=/cachefs/cachefs-data-3",
    ]
    kept = by_name(made["spec"]["volumes"])
    assert "persistentVolumeClaim" in kept["other"]
    assert "csi" in kept["sockets"]
    mounts = by_name(made["spec"]["containers"][0]["volumeMounts"])
    assert mounts["cachefs-data-3"] == {
        "name": "cachefs-data-3",
        "mountPath": "/models/extra",
        "readOnly": True,
    }


def test_schedulers_still_see_what_an_injected_pod_reads():
    for mode in ("files", "sidecar"):
        made, _ = injected(pod(mode, {"cachefs.io/datasets": "tokens"}))
        asked = question_of(made, namespace="team-a")
        assert [str(each.dataset) for each in asked.readings] == ["tokens", "team-a/llama"]
        assert injected(pod(mode, NAMED))[0]["metadata"]["annotations"].items() >= NAMED.items()


def test_a_claim_that_merely_has_a_datasets_name_is_anybodys():
    volumes = [{"name": "model", "persistentVolumeClaim": {"claimName": "llama"}}]
    for named in (None, {"cachefs.io/datasets": "team-b/llama"}):
        before = pod("files", named, volumes=volumes)
        assert injected(before)[0] == before


def test_a_volume_may_have_a_limit():
    made, _ = injected(pod("files", {"cachefs.io/size-limit": "200Gi"}))
    assert made["spec"]["volumes"][0]["emptyDir"] == {"sizeLimit": "200Gi"}


def test_the_token_is_seen_by_our_containers_only():
    for mode in ("files", "endpoint", "sidecar"):
        made, _ = injected(pod(mode, NAMED))
        for each in made["spec"]["containers"]:
            assert "cachefs-token" not in by_name(each.get("volumeMounts", ()))
        secret = by_name(made["spec"]["volumes"])["cachefs-token"]["secret"]
        assert secret["secretName"] == "cachefs-reader"


def test_endpoints_are_a_native_sidecar_that_serves_what_the_pod_names():
    annotations = {"cachefs.io/datasets": "team-a/tokens, team-a/llama@v2"}
    made, warnings = injected(pod("endpoint", annotations, initContainers=copy.deepcopy(USERS)))
    first, setup = made["spec"]["initContainers"]
    assert first["restartPolicy"] == "Always"
    assert first["startupProbe"]["exec"]["command"][0] == "test"
    assert first["command"][3:] == ["team-a/tokens", "team-a/llama"]
    for each in (setup, *made["spec"]["containers"]):
        assert by_name(each["env"])["HF_ENDPOINT"]["value"] == "http://127.0.0.1:17071"
        assert by_name(each["env"])["AWS_ENDPOINT_URL"]["value"] == "http://127.0.0.1:17070"
    assert warnings == []
    assert made["spec"]["volumes"][0] == volume("model", "llama")


def test_a_container_with_an_s3_of_its_own_is_not_sent_to_ours():
    before = pod("endpoint", NAMED)
    before["spec"]["containers"][0]["env"] = [{"name": "AWS_ACCESS_KEY_ID", "value": "x"}]
    made, _ = injected(before)
    names = [each["name"] for each in made["spec"]["containers"][0]["env"]]
    assert names == ["AWS_ACCESS_KEY_ID", "HF_ENDPOINT", "HF_HUB_DISABLE_XET", "HF_TOKEN_PATH"]


def test_a_container_with_everything_of_its_own_is_left_and_that_is_said():
    before = pod("endpoint", NAMED)
    own = [{"name": "AWS_PROFILE", "value": "x"}, {"name": "HF_ENDPOINT", "value": "y"}]
    before["spec"]["containers"][0]["env"] = own
    made, warnings = injected(before)
    assert made["spec"]["containers"][0]["env"] == own
    assert "main" in warnings[0]


def test_a_mount_by_a_sidecar_reaches_the_containers():
    made, _ = injected(pod("sidecar", initContainers=copy.deepcopy(USERS)))
    ours, setup = made["spec"]["initContainers"]
    mount = by_name(ours["volumeMounts"])["model"]
    assert mount["mountPropagation"] == "Bidirectional"
    assert ours["command"][3:] == ["team-a/llama", mount["mountPath"]]
    assert ours["restartPolicy"] == "Always"
    for each in (setup, *made["spec"]["containers"]):
        assert by_name(each["volumeMounts"])["model"]["mountPropagation"] == "HostToContainer"


def test_two_mounts_by_sidecars_have_containers_and_folders_of_their_own():
    made, _ = injected(pod("sidecar", volumes=[volume("model", "a"), volume("b", "c")]))
    first, second = made["spec"]["initContainers"]
    assert first["name"] != second["name"]
    folders = {
        each["subPath"]
        for one in (first, second)
        for each in one["volumeMounts"]
        if "subPath" in each
    }
    assert len(folders) == 2


def test_true_is_what_the_installation_says():
    assert injected(pod("true"))[0]["spec"]["volumes"][0] == volume("model", "llama")
    made, _ = injected(pod("true"), default=Mode.FILES)
    assert made["metadata"]["annotations"]["cachefs.io/injected"] == "files"


def test_healed_mounts_are_seen_by_who_mounts_datasets_and_nothing_else_is_changed():
    before = pod("csi", volumes=[volume("model", "llama"), {"name": "x", "emptyDir": {}}])
    before["spec"]["containers"][0]["volumeMounts"].append({"name": "x", "mountPath": "/x"})
    made, _ = injected(before)
    model, other = made["spec"]["containers"][0]["volumeMounts"]
    assert model == {
        "name": "model",
        "mountPath": "/models/llama",
        "mountPropagation": "HostToContainer",
    }
    assert other == {"name": "x", "mountPath": "/x"}


NOTHING_OF_OURS = [{"name": "model", "emptyDir": {}}]


@pytest.mark.parametrize("mode", ["csi", "files", "sidecar"])
def test_a_pod_without_datasets_is_not_touched(mode):
    before = pod(mode, volumes=NOTHING_OF_OURS)
    assert injected(before) == (before, [])


def test_an_endpoint_for_no_dataset_is_refused_with_a_reason():
    with pytest.raises(ConfigError, match="names no dataset"):
        injected(pod("endpoint", volumes=NOTHING_OF_OURS))


@pytest.mark.parametrize("mode", ["files", "endpoint", "sidecar"])
@pytest.mark.parametrize(
    "spec",
    [
        {"hostNetwork": True},
        {"os": {"name": "windows"}},
        {"nodeSelector": {"kubernetes.io/os": "windows"}},
        {"initContainers": [{"name": "cachefs-copy", "image": "x"}]},
        {"volumes": [volume("cachefs-token", "llama")]},
    ],
)
def test_pods_in_which_it_could_not_work_are_refused_with_a_reason(mode, spec):
    with pytest.raises(ConfigError):
        injected(pod(mode, NAMED, **spec))


@pytest.mark.parametrize(
    ("inject", "annotations", "spec"),
    [
        ("everything", None, {}),
        ("files", {"cachefs.io/datasets": "llama=models"}, {}),
        ("files", {"cachefs.io/datasets": "llama=/models/llama"}, {}),
        ("files", {"cachefs.io/datasets": "No/Name=/x"}, {}),
        ("files", {"cachefs.io/size-limit": "lots"}, {}),
        ("files", None, {"volumes": [volume("model", "../etc")]}),
        ("files", None, {"volumes": [volume("model", "llama", path="../../etc")]}),
        ("files", None, {"volumes": [volume("model", "llama", version="not one!")]}),
        ("sidecar", None, {"volumes": [volume("model", "llama", path="sub")]}),
        ("csi", {"cachefs.io/datasets": "a/b/c"}, {}),
    ],
)
def test_what_makes_no_sense_is_said(inject, annotations, spec):
    with pytest.raises(ConfigError):
        injected(pod(inject, annotations, **spec))


def test_nothing_is_injected_where_it_is_switched_off():
    before = pod("false", NAMED)
    assert injected(before) == (before, [])
    assert injected(pod())[0] == pod()


def test_a_pods_own_user_is_ours_too_unless_it_is_root():
    def user(made):
        return made["spec"]["initContainers"][0]["securityContext"].get("runAsUser")

    assert user(injected(pod("files"))[0]) == 65532
    assert user(injected(pod("files", securityContext={"runAsUser": 0}))[0]) == 65532
    assert user(injected(pod("files", securityContext={"runAsUser": 1000}))[0]) is None


def test_a_pod_of_guaranteed_quality_stays_so():
    resources = {"limits": {"cpu": "4", "memory": "8Gi"}, "requests": {"cpu": "4"}}
    before = pod("endpoint", NAMED)
    before["spec"]["containers"][0]["resources"] = resources
    ours = injected(before)[0]["spec"]["initContainers"][0]["resources"]
    assert ours["limits"] == ours["requests"]
    assert {"cpu", "memory"} <= ours["limits"].keys()
    ours = injected(pod("endpoint", NAMED))[0]["spec"]["initContainers"][0]["resources"]
    assert "cpu" not in ours["limits"]


def test_where_a_quota_wants_limits_of_processors_ours_has_one_too():
    before = pod("files")
    before["spec"]["containers"][0]["resources"] = {
        "limits": {"cpu": "4"},
        "requests": {"cpu": "1"},
    }
    ours = injected(before)[0]["spec"]["initContainers"][0]["resources"]
    assert ours == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }


def test_a_mount_that_is_read_only_all_the_way_down_is_left_as_it_is():
    before = pod("csi")
    mount = before["spec"]["containers"][0]["volumeMounts"][0]
    mount |= {"readOnly": True, "recursiveReadOnly": "Enabled"}
    assert injected(before) == (before, [])


def test_a_privileged_sidecar_may_run_in_a_pod_that_is_not_root():
    made, _ = injected(pod("sidecar", securityContext={"runAsNonRoot": True, "runAsUser": 1000}))
    ours = made["spec"]["initContainers"][0]["securityContext"]
    assert (ours["runAsUser"], ours["runAsNonRoot"]) == (0, False)


def test_service_account_tokens_are_as_they_were():
    for value in (True, False):
        made, _ = injected(pod("files", automountServiceAccountToken=value))
        assert made["spec"]["automountServiceAccountToken"] is value
    assert "automountServiceAccountToken" not in injected(pod("files"))[0]["spec"]
