"""Real Ray: it takes the options that a hint renders, and runs tasks where they say."""

import tempfile

import pytest

from cachefs.hints.renderings.ray import ray as rendered
from tests.unit.hints.making import NOTHING, gang_of, hint, node, question

ray = pytest.importorskip("ray")

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]

READY_SECONDS = 60.0


@pytest.fixture(scope="module")
def cluster():
    """Start Ray here, on a node that hints know as ``n2``."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as home:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield ray.init(
            num_cpus=2,
            labels={"cachefs.io/node": "n2"},
            include_dashboard=False,
            configure_logging=False,
            log_to_driver=False,
            _temp_dir=home,  # its sockets want a short path
        )
        ray.shutdown()


def place(options) -> str:
    """Run a task with these options; return the label of the node that it ran on."""

    @ray.remote(num_cpus=1, max_retries=0)
    def where():
        return ray.get_runtime_context().get_node_labels()["cachefs.io/node"]

    task = where.options(**options).remote()
    return ray.get(task, timeout=READY_SECONDS)


def test_ray_runs_a_task_on_the_best_node_that_there_is(cluster):
    told = hint(node("n1", 3.0), node("n2", 30.0), node("n3", 300.0))
    options = rendered(told, question("llama"))
    assert options["label_selector"] == {"cachefs.io/node": "n1"}
    assert place(options) == "n2"


def test_ray_runs_a_task_somewhere_if_it_has_none_of_the_nodes(cluster):
    told = hint(node("n7", 3.0), node("n8", 3.1), node("n9", 300.0))
    options = rendered(told, question("llama"))
    assert options["label_selector"] == {"cachefs.io/node": "in(n7, n8)"}
    assert place(options) == "n2"
    assert place(rendered(NOTHING, question("llama"))) == "n2"


def test_ray_places_a_gang_by_its_bundles(cluster):
    told = hint(node("n2", 3.0), gang=gang_of("n2", "n2"))
    options = rendered(told, question("llama", members=2))
    group = ray.util.placement_group([{"CPU": 1}, {"CPU": 1}], **options)
    assert group.wait(READY_SECONDS)
    ray.util.remove_placement_group(group)


def test_ray_has_no_node_for_a_required_dataset_that_is_elsewhere(cluster):
    told = hint(node("n7", 3.0, held=100), node("n8", 30.0, held=50))
    with pytest.raises(ray.exceptions.GetTimeoutError):
        place_soon(rendered(told, question(required=("llama",))))


def place_soon(options) -> str:
    @ray.remote(num_cpus=1)
    def anywhere():
        return "somewhere"

    task = anywhere.options(**options).remote()
    try:
        return ray.get(task, timeout=3.0)
    finally:
        ray.cancel(task, force=True)
