# One command each. Every target sets up what it needs: a virtual environment in .venv with the target's
# dependency group, and, where a target says so, Debian packages (installed only if they are missing).

export PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GROUP := $(VENV)/.group-
FRAMEWORKS := .cache/frameworks

.PHONY: demo test test-frameworks check bench proto sbom constraints clean

demo: $(GROUP)demo
	@$(BIN)/python -m bench.demo

test: $(GROUP)test
	@.ci/debian postgresql nginx-light fuse3 fio git rsync sqlite3 slurmctld slurmd slurm-client munge prometheus || echo "going on without them: their tests are skipped" >&2
	@$(BIN)/python -m pytest -n 4 --dist worksteal tests

test-frameworks: $(FRAMEWORKS)/.group-frameworks  # what `make test` skips for want of torch, Ray, …
	@$(FRAMEWORKS)/bin/python -m pytest -n 2 -m frameworks tests

check: $(GROUP)check
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell cachefs workers dataflow sdk k8s tests docs bench README.md CHANGELOG.md Makefile
	@$(BIN)/python -m pytest -q tests/unit/test_layout.py tests/unit/test_tidy.py

bench: $(GROUP)bench
	@.ci/debian nginx-light iproute2 fuse3 libfuse2 rclone s3fs
	@$(BIN)/python -m bench

proto: $(GROUP)check
	@$(BIN)/python -m grpc_tools.protoc -I cachefs/wire/proto \
		--python_out=cachefs/wire/proto --pyi_out=cachefs/wire/proto --grpc_python_out=cachefs/wire/proto \
		cachefs/wire/proto/cachefs.proto
	@sed -i 's/^import cachefs_pb2 as/from cachefs.wire.proto import cachefs_pb2 as/' cachefs/wire/proto/cachefs_pb2_grpc.py
	@$(BIN)/python -m grpc_tools.protoc -I k8s/csi/proto \
		--python_out=k8s/csi/proto --pyi_out=k8s/csi/proto --grpc_python_out=k8s/csi/proto \
		k8s/csi/proto/csi.proto k8s/csi/proto/registration.proto
	@sed -i 's/^import \(csi\|registration\)_pb2 as/from cachefs.k8s.csi.proto import \1_pb2 as/' k8s/csi/proto/*_pb2_grpc.py

sbom: $(GROUP)check  # what is in the image, by name, version and hash: CycloneDX, in dist/
	@mkdir -p dist
	@$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file dist/sbom.cdx.json k8s/image/requirements.txt

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

constraints: $(GROUP)check  # the newest versions that fit together; run the tests before committing them
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-annotate --no-header \
		--group pyproject.toml:check --group pyproject.toml:bench --group pyproject.toml:frameworks \
		pyproject.toml --output-file constraints.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header --generate-hashes \
		--constraint constraints.txt --extra postgres --extra blake3 --extra hub --extra gcs --extra azure \
		--extra kubernetes pyproject.toml --output-file k8s/image/requirements.txt
	@echo hatchling | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
		--generate-hashes --constraint constraints.txt - --output-file k8s/image/build.txt

$(GROUP)%: pyproject.toml constraints.txt
	@.ci/venv $*

$(FRAMEWORKS)/.group-%: pyproject.toml constraints.txt
	@VENV=$(FRAMEWORKS) .ci/venv $*
