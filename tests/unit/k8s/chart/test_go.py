"""Go's own templates read ours as our interpreter does: kubectl has them, and needs no server for this."""

import json
import re
import shutil
import subprocess

import pytest

from cachefs.k8s import chart
from tests.unit.k8s.chart.helm import rendered
from tests.unit.k8s.chart.test_chart import CASES, DEFAULTS, _over

FILES = {name: text for name, text in chart.files().items() if name.startswith("templates/")}
KUBECTL = shutil.which("kubectl")


def _without_functions(text):
    """Return a template without Helm's own functions, which kubectl lacks."""
    text = re.sub(r" \| quote }}", " }}", text)
    text = re.sub(r"{{ int64 \S+ }}", "7", text)
    return re.sub(r"{{- toYaml \S+ \| nindent \d+ }}", "[]", text)


@pytest.mark.slow
@pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")
@pytest.mark.parametrize("case", ["least", "full", "drawn-1"])
def test_conditions_and_white_space_are_as_in_go(tmp_path, case):
    values = _over(DEFAULTS, CASES[case])
    world = {"apiVersion": "example.com/v1", "kind": "World", "metadata": {"name": "world"}}
    world |= {"Values": values, "Release": {"Namespace": "models"}}
    (tmp_path / "world.json").write_text(json.dumps(world))
    text = "\n=====\n".join(_without_functions(text) for text in FILES.values())
    (tmp_path / "template").write_text(text)
    done = subprocess.run(
        [
            KUBECTL,
            "label",
            "--local",
            "--filename=world.json",
            "a=b",
            "--output=go-template-file=template",
        ],
        cwd=tmp_path,
        env={"KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == rendered(text, values, "models")
