# The two commands of the README, and the checks of CI. Each target does its own set-up, once:
# with uv where there is one or pip can bring it, and with your own settings of pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(PYTHON) .ci/install.py

.PHONY: reproduce references test test-slow test-all docs test-torch test-oldest test-versions test-lowest check faults cuda cuda-dry-run estimates witness upstream frameworks public-scripts operators clean

reproduce: $(VENV)/.installed
	$(BIN)/harness reproduce

# A file of tests stays in one process; no number that is tested depends on a neighbour.
PYTEST = $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

# The committed runs, made again with the code of today: an hour on an idle machine. From a clean
# checkout, so that every record names one commit; then replaces those under results/.
REFERENCES := build/references
references: $(VENV)/.installed
	git diff --quiet HEAD
	rm -rf $(REFERENCES)
	$(BIN)/harness reproduce --full --out $(REFERENCES)/reference-cpu
	$(BIN)/harness reproduce --device cuda --gpu a100-40gb --out $(REFERENCES)/reference-cuda-dry-run
	$(BIN)/harness reproduce --literature --out $(REFERENCES)/literature
	cp results/reference-cpu/faults.md results/reference-cpu/oom_search.json $(REFERENCES)/reference-cpu
	for run in reference-cpu reference-cuda-dry-run literature; do \
	  rm -rf results/$$run && mv $(REFERENCES)/$$run results/; done

# The quick tests: does the harness work here, and did a change break it? Three minutes.
test: $(VENV)/.installed-test
	$(PYTEST) -n 2 -m "not slow"

# The others: faults, the wheel, every dry run, command and executor, other processors. Three
# processes for two cores, because many of these tests wait for another process.
test-slow: $(VENV)/.installed-test
	$(PYTEST) -n 3 -m slow

# Each test once, and the properties at their full size.
test-all: export HYPOTHESIS_PROFILE = ci
test-all: test test-slow

# The documentation site, without a network; a warning or a broken link is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

check: $(VENV)/.installed-test $(VENV)/.installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/prose.py

# The version-dependent tests with one version of PyTorch ("latest": the newest of the index), in
# an environment of its own that pip makes without local configuration: 7 GB, kept until clean.
TORCH ?= latest
test-torch:
	$(PYTHON) -m benchmarks.validation.torch_versions $(TORCH) --keep

# The same with the oldest version that pyproject.toml admits.
test-oldest:
	$(PYTHON) -m benchmarks.validation.torch_versions 2.7 --keep

# The same with each known version, one environment at a time; writes results/torch-versions.md.
# VERSIONS="2.8 2.9" runs these alone and keeps the rows of the others.
VERSIONS ?= all
test-versions:
	$(PYTHON) -m benchmarks.validation.torch_versions $(VERSIONS) --record

# The lowest versions that pyproject admits of all but torch, whose versions are tested above. What
# old versions warn of among themselves is theirs.
test-lowest: $(VENV)/.installed-test $(VENV)-lowest/.installed
	$(VENV)-lowest/bin/python -m pytest -o filterwarnings=default tests/analysis \
	  tests/reporting/test_tables.py tests/reporting/test_figures.py tests/reporting/test_report.py \
	  tests/schema/test_record.py tests/schema/test_workload.py tests/cli/test_app.py tests/sweep/test_store.py \
	  tests/faults/test_cluster.py

# Hundreds of injected faults and thousands of fuzzed command lines; a quarter of an hour.
DRY_RUN_FAULTS = $(addprefix tests/dry_runs/test_, everything_is_seen.py never_lost.py own_interpreter.py \
  run_ends.py stub_cache.py unknown_sizes.py user_files.py generated_scripts.py)
faults: $(VENV)/.installed-test $(VENV)/.installed-cluster
	rm -f results/reference-cpu/faults.md
	HARNESS_FAULTS=full $(BIN)/python -m pytest -n 2 --dist loadfile tests/faults \
	  tests/cli/test_fuzz.py tests/sweep/test_executors.py $(DRY_RUN_FAULTS)

# On a machine with a GPU: its tests, the quick experiments, and predictions against measurement;
# writes results/<name of the GPU>/. Half an hour.
cuda: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m cuda

# The same without a GPU, under the dry run, in an environment of its own with the CUDA build of
# PyTorch that the package index has: 7 GB, kept until clean.
CUDA := $(VENV)-cuda
CUDA_TORCH ?= 'torch>=2.15'
CUDA_OUT ?= results/cuda-dry-run
cuda-dry-run: $(CUDA)/.installed
	$(CUDA)/bin/python -m pytest tests/dry_runs tests/snapshots
	$(CUDA)/bin/python -m benchmarks.validation.dry_run -m pytest -m cuda tests/cuda

# The errors that every estimate prints: steps traced under the dry run, and estimated by the CPU build
# of PyTorch. Hours on two processors; what was recorded in build/ is kept.
estimates: $(CUDA)/.installed $(VENV)/.installed-test
	$(CUDA)/bin/python -m benchmarks.validation.dry_run \
	  -m benchmarks.validation.compare_estimates record build/estimates
	$(BIN)/python -m benchmarks.validation.compare_estimates compare build/estimates $(CUDA_OUT)

# Predictions scored on measurements of real GPUs that others published, with the version of PyTorch
# that is nearest to theirs. A third of the rows, at most 100, gives the constant of the source, the
# others are scored. CLONE is a clone of the repository; without it git makes one.
SOURCE ?= gpumemnet-mlps
ROWS ?= 150
SEED ?= 0
witness: $(CUDA)/.installed
	$(CUDA)/bin/python -m benchmarks.witnesses $(SOURCE) --rows $(ROWS) --seed $(SEED) \
	  $(if $(CLONE),--clone $(CLONE),--fetch)

# GPU tests of torchtitan and PyTorch, as they are, without a GPU: TITAN and PYTORCH are clones, of
# which one may be left out. Writes results/upstream/.
upstream: $(CUDA)/.installed
	$(INSTALL) $(CUDA) test $(CUDA_TORCH) expecttest psutil pulp pwlf $(if $(TITAN),-r $(TITAN)/requirements.txt)
	$(CUDA)/bin/python -m benchmarks.upstream $(if $(TITAN),--torchtitan $(TITAN)) \
	  $(if $(PYTORCH),--pytorch $(PYTORCH))

# Scripts that train with other frameworks, against closed forms; writes results/frameworks. With a
# clone of torchtitan (TITAN) its rows, too.
frameworks: $(CUDA)/.installed
	$(INSTALL) $(CUDA) test $(CUDA_TORCH) bitsandbytes torchao peft trl lightning transformers \
	  accelerate deepspeed ultralytics $(if $(TITAN),-r $(TITAN)/requirements.txt)
	PATH=$(CURDIR)/$(CUDA)/bin:$$PATH $(CUDA)/bin/python -m benchmarks.frameworks \
	  $(if $(TITAN),--torchtitan $(TITAN))

# Public training scripts on stand-in data, once and with all values that nobody knows, both timed:
# on an idle machine. CLONES/NAME are clones; writes results/cuda-dry-run/public-scripts.*.
public-scripts: $(CUDA)/.installed
	$(INSTALL) $(CUDA) test $(CUDA_TORCH) torchvision -r benchmarks/public_scripts/requirements.txt
	$(CUDA)/bin/python -m benchmarks.public_scripts --clones $(CLONES)

# All operators, modules and optimizers of PyTorch's own test databases on a pretended GPU, compared
# with the CPU; writes results/operators. SAMPLES=2 takes two samples of each operator.
operators: $(CUDA)/.installed
	$(INSTALL) $(CUDA) test $(CUDA_TORCH) expecttest
	$(CUDA)/bin/python -m benchmarks.computed_values --out results/operators $(if $(SAMPLES),--samples $(SAMPLES))

$(CUDA)/.installed: pyproject.toml
	$(INSTALL) $(CUDA) test $(CUDA_TORCH) torchvision transformers diffusers

$(VENV)/bin/python:
	$(INSTALL) $(VENV)

# Stamps: nothing is installed a second time until pyproject.toml changes.
$(VENV)/.installed: pyproject.toml
	$(INSTALL) $(VENV)

$(VENV)/.installed-%: pyproject.toml
	$(INSTALL) $(VENV) $*

# Torch comes from the first environment, by a path file; what is installed here goes before it.
$(VENV)-lowest/.installed: pyproject.toml .ci/lowest.py $(VENV)/.installed
	$(PYTHON) -m venv $(VENV)-lowest
	$(BIN)/python .ci/lowest.py >$(VENV)-lowest/versions.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --only-binary :all: \
	  --requirement $(VENV)-lowest/versions.txt
	printf '%s\n' $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	  $(CURDIR) >$$($(VENV)-lowest/bin/python -c \
	  'import sysconfig; print(sysconfig.get_path("purelib"))')/torch.pth
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-cuda $(VENV)-lowest $(VENV)-torch-*
