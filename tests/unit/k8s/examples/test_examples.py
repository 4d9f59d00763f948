"""Each example is what Kubernetes, we and other projects take, and what it names is there."""

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from cachefs.core.datasets import OriginSpec
from cachefs.core.names import DatasetName
from cachefs.core.tenants import Tenants
from cachefs.dataflow.spec.reading import read_flow
from cachefs.errors import NotAllowedError
from cachefs.hints.consumers.kueue import CONTROLLER
from cachefs.hints.consumers.pods import question_of
from cachefs.k8s import examples, values
from cachefs.k8s.crds import datasets, flows, pools, runs
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.whole import documents
from cachefs.k8s.names import API_VERSION, DRIVER, INJECT, PREFETCH, QUEUE
from cachefs.k8s.operator.pods import prefetching
from cachefs.k8s.webhook.containers import Injection
from cachefs.k8s.webhook.drafting import Draft
from cachefs.k8s.webhook.injecting import Injecting
from tests.unit.k8s.crds.judging import judge
from tests.unit.k8s.crds.test_objects import KINDS
from tests.unit.k8s.examples.fields import KNOWN, templates, unknown

FOLDER = Path(examples.__path__[0])
FILES = {
    file.stem: list(yaml.safe_load_all(file.read_text()))
    for file in sorted(FOLDER.glob("*.yaml"))
    if not file.stem.endswith("-values")
}
INSTALLED = documents(Installation(image="cachefs:1", observing=False))
PARSERS = {
    "Dataset": datasets.parse,
    "CachePool": pools.parse,
    "Flow": flows.parse,
    "FlowRun": runs.parse,
}
ROWS = [(name, document) for name, found in FILES.items() for document in found]
every = pytest.mark.parametrize(
    ("name", "document"), ROWS, ids=[f"{name}: {each['kind']}" for name, each in ROWS]
)
every_file = pytest.mark.parametrize("name", FILES)
PODS = [(name, document, template) for name, document in ROWS for template in templates(document)]
every_pod = pytest.mark.parametrize(
    ("name", "document", "template"),
    PODS,
    ids=[f"{name}: {each['kind']} {each['metadata']['name']}" for name, each, _ in PODS],
)


def of_kind(found, kind, namespace=None):
    """Return objects by name."""
    return {
        each["metadata"]["name"]: each
        for each in found
        if each["kind"] == kind and namespace in (None, each["metadata"].get("namespace"))
    }


def declared(name):
    """Return what datasets of an example say, by full name."""
    return {
        spec.name: spec for spec in map(datasets.parse, of_kind(FILES[name], "Dataset").values())
    }


def pod_of(document, template):
    """Return a pod as its owner makes it; what it inherits from an owner that hands labels on, too."""
    metadata = document["metadata"]
    inner = template.get("metadata", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", "namespace": metadata["namespace"], **inner},
        "spec": template["spec"],
    }


def embedded():
    """Return the scheduler's configuration."""
    (text,) = of_kind(FILES["scheduling"], "ConfigMap")["cachefs-scheduler"]["data"].values()
    return yaml.safe_load(text)


@every
def test_an_object_is_what_its_kind_takes(name, document):
    if document["apiVersion"] == API_VERSION:
        assert judge(KINDS[document["kind"]], document) == []
        PARSERS[document["kind"]](document)
    elif (document["apiVersion"], document["kind"]) in KNOWN:
        assert list(unknown(document)) == []
    else:
        kubernetes_validate.validate(document, "1.34", strict=True)


@every_pod
def test_a_pod_is_what_kubernetes_takes(name, document, template):
    kubernetes_validate.validate(pod_of(document, template), "1.34", strict=True)


def test_the_schedulers_configuration_has_fields_that_it_knows():
    assert list(unknown(embedded())) == []


def test_a_field_that_nobody_knows_is_seen():
    queue = {
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "Queue",
        "spec": {"heaviness": 1, "weight": "1"},
    }
    assert list(unknown(queue)) == [
        "Queue.spec.heaviness: no such field",
        "Queue.spec.weight: not a number",
    ]


@every_file
def test_an_example_begins_with_what_it_is_about(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert "cachefs.io" in text


@every
def test_the_namespace_of_an_object_is_there(name, document):
    namespace = document["metadata"].get("namespace")
    known = of_kind(FILES[name], "Namespace").keys() | of_kind(INSTALLED, "Namespace").keys()
    if document["kind"] in PARSERS:
        assert namespace
    # The owner of a dataset that is shared may be in another file.
    shared = document["kind"] == "Dataset" and document["spec"].get("sharedWith")
    assert namespace in {None, "kube-system"} | known or shared


@every_file
def test_the_pool_of_a_dataset_is_there(name):
    known = of_kind(FILES[name], "CachePool").keys() | of_kind(INSTALLED, "CachePool").keys()
    for spec in declared(name).values():
        assert spec.pool in known
    for pool in of_kind(FILES[name], "CachePool").values():
        assert pool["metadata"]["namespace"] in of_kind(INSTALLED, "Namespace")


@every_pod
def test_what_a_pod_mounts_is_there_and_its_own(name, document, template):
    known = declared(name)
    namespace = document["metadata"]["namespace"]
    for volume in template["spec"].get("volumes", ()):
        if "persistentVolumeClaim" in volume:
            spec = known[DatasetName(namespace, volume["persistentVolumeClaim"]["claimName"])]
            assert spec.volume.enabled
        elif "csi" in volume:
            assert volume["csi"]["driver"] == DRIVER
            written = volume["csi"]["volumeAttributes"]["dataset"]
            assert known[DatasetName.parse(written)].serves(namespace)
        elif "configMap" in volume:
            maps = of_kind([*FILES[name], *INSTALLED], "ConfigMap", namespace)
            assert volume["configMap"]["name"] in maps
        else:
            assert "emptyDir" in volume
    volumes = [each["name"] for each in template["spec"].get("volumes", ())]
    for container in template["spec"]["containers"]:
        mounts = [each["name"] for each in container.get("volumeMounts", ())]
        assert set(mounts) <= set(volumes)
        assert len(mounts) == len(set(mounts))


@every_pod
def test_ports_accounts_and_selectors_lead_somewhere(name, document, template):
    spec, namespace = template["spec"], document["metadata"]["namespace"]
    for container in spec["containers"]:
        ports = {each["name"] for each in container.get("ports", ())} | {10259}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["port"] in ports
    if "serviceAccountName" in spec:
        assert spec["serviceAccountName"] in of_kind(FILES[name], "ServiceAccount", namespace)
    if document["kind"] == "Deployment":
        wanted = document["spec"]["selector"]["matchLabels"].items()
        assert wanted <= template["metadata"]["labels"].items()


@every_pod
def test_what_a_pod_says_of_its_data_makes_sense(name, document, template):
    pod = pod_of(document, template)
    annotations = pod["metadata"].get("annotations", {})
    namespace = document["metadata"]["namespace"]
    question = question_of(pod, namespace=namespace)
    named = {each.dataset for each in question.readings} if question else set()
    for dataset in named:
        assert declared(name)[dataset].serves(namespace)
    if "cachefs.io/datasets" in annotations or pod["metadata"].get("labels", {}).get(
        "cachefs.io/hint"
    ):
        assert named
    if PREFETCH in annotations:
        assert pod["metadata"]["labels"][PREFETCH] == "true"
        assert {dataset for dataset, _ in prefetching.wanted(pod)} <= declared(name).keys()
    if INJECT in pod["metadata"].get("labels", {}):
        draft, warnings = Draft(pod), []
        injecting = Injecting(Injection(image="cachefs:1", coordinator="coordinator:7070"))
        assert injecting.change(draft, namespace, warnings) == pod["metadata"]["labels"][INJECT]
        assert warnings == []
        kubernetes_validate.validate(draft.pod, "1.34", strict=True)


@every_file
def test_services_select_pods_of_the_file(name):
    for service in of_kind(FILES[name], "Service").values():
        wanted = service["spec"]["selector"].items()
        assert any(
            wanted <= template["metadata"]["labels"].items()
            for file, _, template in PODS
            if file == name and "metadata" in template
        )


@every_file
def test_a_dataset_of_one_name_has_one_origin_in_all_examples(name):
    for dataset, spec in declared(name).items():
        for other in FILES:
            assert declared(other).get(dataset, spec).url == spec.url


def test_a_flow_is_one_that_the_coordinator_takes_and_its_run_fits():
    found = FILES["publish"]
    (flow,) = of_kind(found, "Flow").values()
    (run,) = of_kind(found, "FlowRun").values()
    spec = flows.parse(flow)
    text = yaml.safe_dump(spec.document(), sort_keys=False)
    read = read_flow(text, name="publish")
    assert read.full_name == "team-a/publish"
    assert [step.kind for step in read.steps] == [
        "migrate",
        "migrate",
        "prefetch",
        "verify",
        "publish",
        "rollout",
        "evict",
    ]
    asked = runs.parse(run)
    assert asked.flow == spec.name
    assert asked.namespace == spec.namespace
    assert asked.params.keys() <= read.params.keys()
    (target,) = re.findall(r"deployment/([\w-]+)", text)
    assert target in of_kind(found, "Deployment", asked.namespace)
    named = {
        DatasetName.parse(each)
        for each in re.findall(r"[\w-]+/[\w-]+(?=@\$\{params\.(?:label|previous))", text)
    }
    assert named == declared("publish").keys()


def test_kueues_objects_lead_from_the_job_to_our_check():
    found = FILES["kueue"]
    (job,) = of_kind(found, "Job").values()
    (local,) = of_kind(found, "LocalQueue", "team-a").values()
    (queue,) = of_kind(found, "ClusterQueue").values()
    (check,) = of_kind(found, "AdmissionCheck").values()
    assert job["metadata"]["labels"][QUEUE] == local["metadata"]["name"]
    assert job["spec"]["suspend"]
    assert local["spec"]["clusterQueue"] == queue["metadata"]["name"]
    strategy = queue["spec"]["admissionChecksStrategy"]["admissionChecks"]
    assert [each["name"] for each in strategy] == [check["metadata"]["name"]]
    assert check["spec"]["controllerName"] == CONTROLLER
    for group in queue["spec"]["resourceGroups"]:
        for flavor in group["flavors"]:
            assert flavor["name"] in of_kind(found, "ResourceFlavor")
            covered = [each["name"] for each in flavor["resources"]]
            assert covered == group["coveredResources"]


def test_volcanos_job_is_a_gang_in_a_queue_that_is_there():
    found = FILES["volcano"]
    (job,) = (each for each in found if each["kind"] == "Job")
    assert job["spec"]["queue"] in of_kind(found, "Queue")
    tasks = job["spec"]["tasks"]
    assert job["spec"]["minAvailable"] == sum(each["replicas"] for each in tasks)
    names = {f"--{each['name']}={each['name']}" for each in tasks}
    assert names <= set(job["spec"]["plugins"]["pytorch"])
    assert "cachefs.io/datasets" in job["metadata"]["annotations"]


def test_kserve_mounts_the_claim_of_a_dataset():
    (service,) = of_kind(FILES["kserve"], "InferenceService").values()
    claim, _, _ = service["spec"]["predictor"]["model"]["storageUri"][len("pvc://") :].partition(
        "/"
    )
    assert DatasetName("team-a", claim) in declared("kserve")
    written = service["metadata"]["annotations"]["cachefs.io/datasets"]
    assert DatasetName.parse(written) in declared("kserve")


def test_rays_application_reads_where_its_workers_mount():
    (service,) = of_kind(FILES["ray"], "RayService").values()
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    (model,) = application["args"]["llm_configs"]
    source = model["model_loading_config"]["model_source"]
    for template in templates(service):
        (container,) = template["spec"]["containers"]
        assert source in [each["mountPath"] for each in container["volumeMounts"]]


def test_the_second_scheduler_is_the_one_that_pods_choose():
    found = FILES["scheduling"]
    config = embedded()
    job = of_kind(found, "Job")["evaluate"]
    profiles = [each["schedulerName"] for each in config["profiles"]]
    assert profiles == [job["spec"]["template"]["spec"]["schedulerName"]]
    (extender,) = config["extenders"]
    (service,) = (
        each
        for each in INSTALLED
        if each["kind"] == "Service" and "webhook" in each["metadata"]["name"]
    )
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert extender["urlPrefix"] == f"https://{host}/extender"
    assert extender["tlsConfig"]["serverName"] == host
    (deployment,) = of_kind(found, "Deployment").values()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    folders = [each["mountPath"] for each in container["volumeMounts"]]
    for file in (extender["tlsConfig"]["caFile"], container["command"][1].partition("=")[2]):
        assert str(Path(file).parent) in folders
    for binding in (each for each in found if each["kind"].endswith("RoleBinding")):
        (subject,) = binding["subjects"]
        assert subject["name"] in of_kind(found, "ServiceAccount", subject["namespace"])


def test_the_values_of_an_installation_without_internet_are_values():
    document = yaml.safe_load((FOLDER / "airgapped-values.yaml").read_text())
    wanted = values.installation(document)
    assert wanted.origins_secret == "origins"
    assert wanted.image in (FOLDER / "airgapped.yaml").read_text()
    assert documents(wanted)


def tenants_of(wanted):
    return Tenants(
        [each for each in (wanted.trusted or "").split(",") if each], wanted.sources.split(",")
    )


@every_file
def test_the_origins_of_an_example_are_allowed_where_it_is_to_be_applied(name):
    wanted = Installation(image="cachefs:1")
    if name == "airgapped":
        wanted = values.installation(yaml.safe_load((FOLDER / "airgapped-values.yaml").read_text()))
    tenants = tenants_of(wanted)
    for dataset, spec in declared(name).items():
        tenants.check_origin(dataset.namespace, spec.dataset().origin)
    for flow in map(flows.parse, of_kind(FILES[name], "Flow").values()):
        for url in re.findall(r"(?:hf|s3)://[\w./@-]+", yaml.safe_dump(flow.spec)):
            tenants.check_origin(flow.namespace, OriginSpec(url))
    with pytest.raises(NotAllowedError):
        tenants.check_origin("team-a", OriginSpec("file:///run/cachefs/token"))


def test_no_example_holds_a_secret():
    for file in FOLDER.glob("*.yaml"):
        assert not re.search(r"hf_\w{8}|AKIA\w{8}|cachefs:\w+@", file.read_text()), file.name
        assert "kind: Secret" not in file.read_text()
