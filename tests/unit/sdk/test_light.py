"""The SDK is imported by other people's programs, so it brings little along."""

import subprocess
import sys

FORBIDDEN = (
    "grpc", "google.protobuf", "fastapi", "pydantic", "sqlalchemy", "uvicorn", "typer", "rich",
    "numpy", "torch", "yaml", "fsspec", "obstore", "prometheus_client", "cachefs.workers",
    "cachefs.coordinator", "cachefs.cli", "cachefs.testing",
)  # fmt: skip


def test_importing_the_sdk_imports_no_server_package():
    program = "import sys, cachefs.sdk; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "cachefs.client.reader" in loaded
    assert [name for name in FORBIDDEN if name in loaded] == []
