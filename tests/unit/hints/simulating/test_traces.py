"""Reading traces: in order, complete, and refused with a reason if they are none."""

import pytest

from cachefs.errors import ConfigError
from cachefs.hints.simulating.traces import read_nodes, read_trace

REQUESTS = """gmt_create,predict_type,exec_time_seconds,checkpoint_model_version_id,num_lora
2024-11-15 16:57:50,TXT_2_IMG,32.0,M0000,0
2024-11-15 16:58:50,TXT_2_IMG,1.0,,0
2024-11-15 17:00:50,IMG_2_IMG,12.5,M0001,1
2024-11-15 16:59:50,IMG_2_IMG,7.0,M0001,1
"""
PODS = """name,cpu_milli,num_gpu,gpu_milli,creation_time,deletion_time,scheduled_time
p0,1000,1,460,100,400,120
p1,1000,0,0,100,400,120
p2,1000,8,1000,130,,140
p3,1000,2,1000,130,200,150
"""


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "trace.csv"
        path.write_text(text)
        return path

    return written


def test_requests_are_read_in_order_and_moved_together(write):
    trace = read_trace(write(REQUESTS), speedup=2)

    assert [each.at for each in trace.requests] == [0.0, 60.0, 90.0]
    assert [each.model for each in trace.requests] == ["M0000", "M0001", "M0001"]
    assert [each.runs_seconds for each in trace.requests] == [32.0, 7.0, 12.5]
    assert trace.models == ("M0000", "M0001")
    assert not trace.models_are_drawn


def test_a_part_of_a_trace_begins_at_zero(write):
    trace = read_trace(write(REQUESTS), first=1, limit=1)

    assert [(each.at, each.runs_seconds) for each in trace.requests] == [(0.0, 7.0)]


def test_pods_get_models_by_seed_and_those_without_an_end_are_left_out(write):
    path = write(PODS)
    trace = read_trace(path, seed=5)

    assert [(each.at, each.runs_seconds, each.gpus) for each in trace.requests] == [
        (0.0, 280.0, 1),
        (30.0, 50.0, 2),
    ]
    assert trace.models_are_drawn
    assert read_trace(path, seed=5) == trace


def test_five_of_the_drawn_models_get_most_of_the_requests(write):
    rows = "".join(f"p{at},1,1,1000,{at},{at + 9},{at}\n" for at in range(4000))
    trace = read_trace(write(PODS.splitlines()[0] + "\n" + rows))
    counts = sorted(
        (sum(each.model == model for each in trace.requests) for model in trace.models),
        reverse=True,
    )

    assert 0.66 < sum(counts[:5]) / 4000 < 0.74


def test_nodes_are_read(write):
    assert read_nodes(write("sn,cpu_milli,gpu,model\na,1,2,P100\nb,1,0,\nc,1,8,V100\n")) == (2, 8)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "not a trace that is known"),
        ("", "not a trace that is known"),
        (REQUESTS.replace("12.5", "long"), "line 4: 'long' is no number"),
        (REQUESTS.replace("2024-11-15 17:00:50", "soon"), "line 4: 'soon' is no time"),
        (REQUESTS.splitlines()[0] + "\n2024-11-15 16:57:50,X,1.0,,0\n", "no requests"),
    ],
)
def test_what_is_no_trace_is_refused_with_the_reason(write, text, said):
    with pytest.raises(ConfigError, match=said):
        read_trace(write(text))


def test_what_cannot_be_read_is_refused(tmp_path, write):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="not a list of nodes"):
        read_nodes(write(REQUESTS))
