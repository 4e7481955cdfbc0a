# make demo        the main job: which photograph is this patch from?
# make digits      the same on scikit-learn's digits, where the features do not pay
# make test        the tests
# make test-cuda   those that need a GPU, and nothing else; bench-cuda measures it
# make check       format, lint, types, docs
# make folder      DATA=images/ : features, a head and an evaluation of your own folder
# make caltech101  DATA=.../101_ObjectCategories : a paper's protocol and its report; also
#                  caltech101-decaf and caltech101-zf
#   MODEL=NAME WEIGHTS=PATH LAYERS='a b' POOL=avg TRAIN=30 choose what is extracted
#
# Outputs are files: make redoes what changed and nothing else. An interrupted run goes on
# where it stopped.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CNNFEAT := $(BIN)/cnnfeat

PROTOCOLS := caltech101 caltech101-decaf caltech101-zf

.PHONY: help demo digits test test-slow test-cuda bench-cuda check format docs clean folder settings $(PROTOCOLS)

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[demo,openvino,dev]'
	touch $@

# ---------------------------------------------------------------- checks and tests

test: $(INSTALLED)
	$(BIN)/python -m pytest -m 'not slow' -n 2 -q

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -q

# Both say so in one line where there is no GPU, and succeed.
test-cuda: $(INSTALLED)
	$(BIN)/python -m pytest -m cuda -q tests/test_cuda.py || test $$? -eq 5  # no tests

bench-cuda: $(INSTALLED)
	$(BIN)/python -m benchmarks.gpu

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/generate_cli.py --check

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(INSTALLED)
	$(BIN)/python docs/generate_cli.py

# An interrupted run goes on, unless the images or the settings are newer than it.
define forget-outdated
@test -z "$$(find $^ -maxdepth 0 -newer $@.part 2>/dev/null)" || rm -f $@.part*
@rm -f $@
endef

# ---------------------------------------------------------------- the demo

DEMO_LAYERS := blocks.0 blocks.2 blocks.4 blocks.6 global_pool
DEMOS := demo digits

$(DEMOS): %: results/%/table.txt
	@cat $<
	@echo 'The page with the figures: results/$@/index.html'

data/photographs data/digits: data/%: data/make_%.py | $(INSTALLED)
	rm -rf $@ $@.part
	$(BIN)/python $< $@

results/demo/features.h5: data/photographs
results/digits/features.h5: data/digits
$(DEMOS:%=results/%/features.h5): | $(INSTALLED)
	mkdir -p $(@D)
	$(forget-outdated)
	rm -f $(@D)/*.baseline-*.h5
	$(CNNFEAT) extract $< -o $@ --resume --pool avg $(DEMO_LAYERS:%=--layer %)

# Patches of the left halves train, patches of the right halves test.
results/demo/table.txt: DRAW = --splits-file data/photographs/splits.csv
results/digits/table.txt: DRAW = --protocol folder --train-per-class 50 --splits 3
$(DEMOS:%=results/%/table.txt): %/table.txt: %/features.h5 | $(INSTALLED)
	$(CNNFEAT) benchmark $< $(DRAW) --head svm --head softmax \
	  --baseline pixels,random --report $(@D) --overwrite > $@

# ---------------------------------------------------------------- pipelines

MODEL ?= efficientnet_lite0
WEIGHTS ?= default
LAYERS ?=
POOL ?= none
TRAIN ?= 30
NAME ?= $(notdir $(patsubst %/,%,$(DATA)))
OUT = results/$(NAME)/$(subst /,-,$(MODEL))

# The directories of the images: adding or removing an image touches one of them.
DATA_FOLDERS = $(if $(DATA),$(shell find -L "$(DATA)" -type d),)
SETTINGS = $(MODEL) $(WEIGHTS) $(LAYERS) $(POOL)

folder: $(if $(DATA),$(OUT)/evaluation.json,data-is-missing)
	@cat $(OUT)/evaluation.json

$(PROTOCOLS): %: $(if $(DATA),$(OUT)/%/table.txt,data-is-missing)
	@cat $(OUT)/$@/table.txt

.PHONY: data-is-missing
data-is-missing:
	@echo 'make: which images? DATA=path/to/class/folders' >&2; exit 2

# Rewritten only when the settings differ from those of the last run.
$(OUT)/settings: settings
	@mkdir -p $(@D)
	@echo '$(SETTINGS)' | cmp -s - $@ || echo '$(SETTINGS)' > $@

$(OUT)/features.h5: $(OUT)/settings $(DATA_FOLDERS) | $(INSTALLED)
	$(forget-outdated)
	$(CNNFEAT) extract "$(DATA)" -o $@ --resume --model $(MODEL) --weights $(WEIGHTS) \
	  --pool $(POOL) $(LAYERS:%=--layer %)

$(OUT)/head.h5: $(OUT)/features.h5 | $(INSTALLED)
	$(CNNFEAT) train-svm $< -o $@ --overwrite --train-per-class $(TRAIN)

$(OUT)/evaluation.json: $(OUT)/head.h5 | $(INSTALLED)
	$(CNNFEAT) evaluate $< $(OUT)/features.h5 --json > $@

# CLASSIFY: what `cnnfeat benchmark` is told besides the protocol.
CLASSIFY ?= --head svm --head softmax
$(PROTOCOLS:%=$(OUT)/%/table.txt): $(OUT)/%/table.txt: $(OUT)/features.h5 | $(INSTALLED)
	mkdir -p $(@D)
	$(CNNFEAT) benchmark $< --protocol $* $(CLASSIFY) --report $(@D) --overwrite > $@

clean:
	rm -rf results build .pytest_cache .mypy_cache .ruff_cache
