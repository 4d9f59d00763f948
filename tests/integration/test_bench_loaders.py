"""The loaders' benchmarks work. Nothing here looks at how fast anything is."""

import importlib.util

import pytest

from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.loaders.chart import draw_rates
from cachefs.benchmarks.loaders.costs import load_costs
from cachefs.benchmarks.loaders.distant import load_remote
from cachefs.benchmarks.loaders.node import load

pytestmark = pytest.mark.slow
for package in ("numpy", "ml_dtypes", "safetensors"):
    pytest.importorskip(package)


@pytest.mark.parametrize("scenario", [load, load_remote, load_costs])
def test_a_quick_run_has_rows_with_a_ratio_or_a_reason(scenario, tmp_path):
    said = []
    rows = scenario(Bench(folder=tmp_path, quick=True, say=said.append))
    assert rows
    for row in rows:
        assert row.ratio is not None or "not installed" in row.note
        assert not row.has_failed
    if scenario is load:
        assert any("chart" in word for word in said)
        assert next(row.scenario for row in rows) == "load, views"
    if scenario is load_costs:  # what a rank reads, and what memory is taken, keep to their limits
        rank, _, budget = rows
        assert rank.is_good
        assert budget.is_good


@pytest.mark.frameworks
def test_a_chart_is_drawn_where_matplotlib_is_installed(tmp_path):
    path = tmp_path / "chart.png"
    drawn = draw_rates(path, "GB/s", {"cachefs": 3.0, "another": 1.5})
    assert drawn == (importlib.util.find_spec("matplotlib") is not None)
    assert not drawn or path.read_bytes().startswith(b"\x89PNG")
