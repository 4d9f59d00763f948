# One command each. Every target sets up what it needs: a virtual environment in .venv, and, where a
# target says so, Debian packages (installed only if they are missing).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up

.PHONY: demo test test-all check bench proto clean

demo: $(SETUP)
	@$(BIN)/python -m bench.demo

test: $(SETUP)
	-@.ci/debian postgresql nginx-light  # without them, their tests are skipped
	@$(BIN)/python -m pytest -n 2 tests

check: $(SETUP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell cachefs workers dataflow sdk k8s tests docs bench README.md CHANGELOG.md Makefile
	@$(BIN)/python -m pytest -q tests/unit/test_layout.py tests/unit/test_tidy.py

bench: $(SETUP)
	@.ci/debian nginx-light iproute2
	@$(BIN)/python -m bench

proto: $(SETUP)
	@$(BIN)/python -m grpc_tools.protoc -I cachefs/wire/proto \
		--python_out=cachefs/wire/proto --pyi_out=cachefs/wire/proto --grpc_python_out=cachefs/wire/proto \
		cachefs/wire/proto/cachefs.proto
	@sed -i 's/^import cachefs_pb2 as/from cachefs.wire.proto import cachefs_pb2 as/' cachefs/wire/proto/cachefs_pb2_grpc.py

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

$(SETUP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ .ci/debian python3-venv && $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev -e '.[postgres,blake3]'
	@touch $@
