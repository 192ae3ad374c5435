# Everything sets itself up: `make copy` on a fresh machine needs Python >= 3.11 and nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help copy test verify mutants interrupts flips fuzz estimators aeon gate-accuracy coverage fuzz-coverage torture lint format notebook web pictures screenshots bars real-data papers papers-page bench killed-ranks parallel-costs bench-copy clean

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

copy: $(VENV)/.copy   ## train an LSTM to copy binary sequences, and show that it does
	$(BIN)/glasscell copy $(ARGS)

# Bytecode is cached here even if the environment turns that off: it halves the time to collect the tests.
test: $(VENV)/.test   ## the test suite (comparisons with what is not installed are skipped, and said to be)
	PYTHONDONTWRITEBYTECODE= OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

verify: $(VENV)/.peers ## every claim against finite differences, PyTorch, ONNX Runtime and Keras: a table
	$(BIN)/glasscell verify $(ARGS)

mutants: $(VENV)/.mutants ## plant bugs: does the test suite find them? (half an hour; ARGS=--resume goes on)
	$(BIN)/python mutants/run_known_bugs.py
	$(BIN)/python mutants/run_generated.py $(ARGS)

interrupts: $(VENV)/.peers ## 1,000 interrupts at random moments in each kind of computation (minutes)
	$(BIN)/python benchmarks/interrupts.py --interrupts 1000

flips: $(VENV)/.test  ## 10,000 flipped bits in files of every kind: none may go unnoticed
	$(BIN)/python benchmarks/torture flips

fuzz: $(VENV)/.test   ## 6,000 mutated traces: every view displays those that load (minutes)
	GLASSCELL_MUTANTS=6000 $(BIN)/python -m pytest tests/trace/test_storage.py -k shown

# Tests that count allocations, imported modules or seconds may fail here, since coverage adds some of each: their
# status counts in `make test`, not here.
coverage: $(VENV)/.peers ## line and branch coverage of src by the test suite, each at least 97 %: exclusions are in pyproject.toml
	$(BIN)/coverage erase
	-OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest --numprocesses 2 --dist worksteal $(ARGS)
	$(BIN)/coverage combine --quiet
	mkdir -p build
	$(BIN)/coverage report
	$(BIN)/coverage json --quiet -o build/coverage.json
	$(BIN)/python benchmarks/coverage_rates.py build/coverage.json

fuzz-coverage: build/atheris/.packages ## coverage-guided fuzzing of three readers, in a separate environment (half an hour)
	build/atheris/bin/python benchmarks/coverage_guided/fuzz.py safetensors $(ARGS)
	build/atheris/bin/python benchmarks/coverage_guided/fuzz.py pickle $(ARGS)
	build/atheris/bin/python benchmarks/coverage_guided/fuzz.py onnx $(ARGS)

torture: $(VENV)/.peers ## the long proofs: mutated files, hostile files, illegal values, ... (hours; ARGS='fuzz --count 1000')
	$(BIN)/python benchmarks/torture $(ARGS)

estimators: $(VENV)/.test ## scikit-learn's checks of both estimators with their default arguments (minutes)
	$(BIN)/python benchmarks/estimator_checks.py sklearn

aeon: build/aeon/.packages ## aeon's checks of its wrappers, in a separate environment: aeon needs an older Numba
	build/aeon/bin/python benchmarks/estimator_checks.py aeon

gate-accuracy: $(VENV)/.peers ## the largest errors of σ and tanh of each engine, in units of the last place
	$(BIN)/python benchmarks/gate_accuracy.py

lint: $(VENV)/.lint   ## formatting, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.lint ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

notebook: $(VENV)/.test ## execute notebooks/Make_copy.py into Make_copy.ipynb
	$(BIN)/python notebooks/execute.py notebooks/Make_copy.py

web: $(BIN)/python  ## build the HTML pages of the package from web/
	$(BIN)/python web/build.py

pictures: $(VENV)/.test ## draw the pictures of the README
	$(BIN)/glasscell copy --out build/picture --overwrite
	cp build/picture/gates.png docs/gates.png
	$(BIN)/python benchmarks/training_picture.py docs/training.png

screenshots: $(VENV)/.browser ## the page of a report in Chromium: pictures in build/screenshots, and frames a second
	$(BIN)/python benchmarks/report_page.py $(ARGS)

bars: $(VENV)/.test   ## ten seeds of each task: do they all learn it? (minutes)
	$(BIN)/python benchmarks/copy_seeds.py

real-data: $(VENV)/.peers ## scores on real data, with baselines: KIND=text, labels or series (minutes to hours)
	$(BIN)/python benchmarks/real_data/$(KIND).py $(ARGS)

papers: $(VENV)/.test ## experiments of classic papers, next to their figures (hours; ARGS='--quick --data FOLDER')
	$(BIN)/glasscell reproduce --all $(ARGS)

papers-page: $(VENV)/.test ## write docs/papers.md from the results in docs/papers
	$(BIN)/python -m glasscell.papers.page docs/papers docs/papers.md

bench: $(VENV)/.peers ## speed compared with PyTorch, ONNX Runtime and JAX: a table, benchmarks/results.json and a plot (minutes)
	$(BIN)/python benchmarks/speed --only training,training-steps,load,forward,streaming,cold,memory,scaling,gemm \
	  --out benchmarks/results.json --plot docs/speed.png --overwrite $(ARGS)

killed-ranks: $(VENV)/.test ## kill a random rank of a training with mpiexec, 20 times: does each run go on? (minutes)
	$(BIN)/python benchmarks/killed_ranks.py $(ARGS)

parallel-costs: $(VENV)/.peers ## costs of several processes, with a model for 2 to 64 machines: tables of docs/parallel.md (minutes)
	$(BIN)/python benchmarks/parallel.py $(ARGS)

bench-copy: $(VENV)/.peers ## from process start to a solved copy task, compared with PyTorch
	$(BIN)/python benchmarks/copy_vs_torch.py

clean:           ## remove the virtual environment and caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist

# A stamp for each set of packages: made again when pyproject.toml changes.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Glasscell needs Python >= 3.11; $(PYTHON) is `$(PYTHON) -V`. Choose another: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) && $(PIP) install --upgrade 'pip>=25.1' || { rm -rf $(VENV); exit 1; }

$(VENV)/.copy: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[cli,plot]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(PIP) install --editable . --group test
	@touch $@

$(VENV)/.lint: pyproject.toml | $(BIN)/python
	$(PIP) install --editable . --group lint
	@touch $@

$(VENV)/.peers: $(VENV)/.test
	$(PIP) install 'torch==2.13.0'
	$(PIP) install --group peers --group browser
	@touch $@

$(VENV)/.browser: $(VENV)/.test
	$(PIP) install --group browser
	@touch $@

build/aeon/.packages: pyproject.toml
	$(PYTHON) -m venv --clear build/aeon
	build/aeon/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[sklearn]' 'aeon==1.6.0' pytest
	@touch $@

build/atheris/.packages: pyproject.toml
	$(PYTHON) -m venv --clear build/atheris
	build/atheris/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[onnx]' 'atheris>=3.0'
	@touch $@

$(VENV)/.mutants: $(VENV)/.peers
	$(PIP) install --group mutants
	@touch $@
