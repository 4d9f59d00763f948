"""The real kubectl takes what is rendered, and what it took is what `cachefs k8s install` would make."""

import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from cachefs.cli import main
from cachefs.testing.kubernetes import ApiServer
from tests.integration.k8s.sites import INSTALL, Site

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")


@pytest.mark.slow
def test_what_is_rendered_is_applied_definitions_first(tmp_path):
    def kubectl(*words, given=""):
        fixed = ["kubectl", "--kubeconfig", str(site.kubeconfig), "--cache-dir", str(tmp_path)]
        done = subprocess.run(
            [*fixed, *words], input=given, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def rendered(part):
        words = ["k8s", "render", "--image", "example/cachefs:1", "--only", part]
        done = CliRunner().invoke(main.app, words)
        assert done.exit_code == 0, done.output
        return done.stdout

    with ApiServer() as server:
        site = Site(server, tmp_path)
        applied = kubectl("apply", "--server-side", "-f", "-", given=rendered("definitions"))
        assert "datasets.cachefs.io serverside-applied" in applied
        kubectl("apply", "--server-side", "-f", "-", given=rendered("objects"))
        assert "default" in kubectl("get", "cpool", "-n", "cachefs")
        planned = site.run(*INSTALL, "--dry-run").splitlines()
        assert [line for line in planned if "Secret" not in line] == [
            "make ConfigMap cachefs/cachefs-installation"
        ]
        assert len(planned) == 3, "the token in both namespaces, and what `install` remembers"
