# `make` shows what there is. Environments are made once, from requirements/, and again when those files change.

PYTHON ?= python3.11
MAX_JOBS ?= 3
ARGS ?=

MMCV_LITE := mmcv-lite==2.2.0
# Goes over opencv-python, which needs display libraries that servers lack.
OPENCV := opencv-python-headless==4.12.0.88

RUN := .venv/bin/python
COMPILED := .venv-compiled/bin/python
DOCS := .venv-docs/bin/python
PIP_INSTALL := -m pip install --disable-pip-version-check
# The package itself; what it needs is in requirements/.
PACKAGE := --no-deps --no-build-isolation -e .
PACKAGING := setup.py pyproject.toml
REQUIREMENTS := $(foreach name,build seg full dev,requirements/$(name).txt)

# Apart from data/ and the other work dirs, so that cleaning takes nothing of yours.
DEMO := work_dirs/demo
DEMO_CONFIG := configs/pspnet/pspnet_r18-d8_w32-ohem_1xb8-400_sample-96x128.py
DEMO_DATA := $(foreach split,train val test,$(split)_dataloader.dataset.data_root=$(DEMO)/data)

# The same for `make showcase`; DATA=FOLDER has images/ and masks/, and may have classes.txt.
SHOWCASE := work_dirs/showcase
SHOWCASE_CONFIG := $(SHOWCASE)/data/config.py
DATA ?=
ifeq ($(DATA),)
SHOWCASE_IMAGES := $(SHOWCASE)/made/images/train
SHOWCASE_MASKS := $(SHOWCASE)/made/annotations/train
else
SHOWCASE_IMAGES := $(DATA)/images
SHOWCASE_MASKS := $(DATA)/masks
endif
SHOWCASE_CLASSES := $(addprefix --classes ,$(wildcard $(DATA:%=%/classes.txt)))

.PHONY: help demo showcase test fuzz test-compiled docs bench bench-compiled lint clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo            make small data, train PSPNet with OHEM on it, evaluate, draw'
	@echo 'make showcase        train the FPN head from a pretrained encoder on made data, evaluate, draw; DATA=FOLDER: on'
	@echo '                     images and masks of your own, in FOLDER/images and FOLDER/masks (docs/data.md)'
	@echo 'make test            ruff and every test; no compiler'
	@echo 'make fuzz            2,000 random cases of every component beside float64 formulas; `make test` runs 100'
	@echo 'make test-compiled   the plain operators beside those of compiled mmcv (environment: .venv-compiled; the first'
	@echo '                     time compiles mmcv, about 25 minutes on two cores)'
	@echo 'make lint            ruff alone'
	@echo 'make docs            the documentation site, in docs/_build/html (environment: .venv-docs)'
	@echo 'make bench           speed and memory against the toolboxes'
	@echo 'make bench-compiled  the same beside the compiled operators of mmcv (environment: .venv-compiled)'
	@echo 'make clean           remove environments, caches and the outputs of demo, showcase and bench'
	@echo
	@echo 'The environment is .venv; it is made once, from requirements/.'
	@echo 'PYTHON=python3.12        another Python than $(PYTHON) for new environments'
	@echo 'ARGS="--size small"      options for bench; for test they go to pytest, as in ARGS="-m '\''not slow'\''"'
	@echo 'MAX_JOBS=8               compilers at a time, default $(MAX_JOBS)'

# Environments ---------------------------------------------------------------------------------------------------------

.PHONY: check-python
check-python:
	@command -v '$(PYTHON)' > /dev/null || { \
	  echo "There is no '$(PYTHON)'; install Python 3.11, or name another one: make PYTHON=python3.12 ..." >&2; exit 1; }

# The sentinel goes first and comes last: an interrupted set-up starts again. mmcv-lite asks for another mmengine.
.venv/.ready: $(REQUIREMENTS) $(PACKAGING) | check-python
	@rm -f $@
	@echo '== environment .venv'
	'$(PYTHON)' -m venv .venv
	$(RUN) $(PIP_INSTALL) $(REQUIREMENTS:%=-r %)
	$(RUN) $(PIP_INSTALL) --no-deps $(MMCV_LITE)
	$(RUN) $(PIP_INSTALL) --no-deps --force-reinstall $(OPENCV)
	$(RUN) $(PIP_INSTALL) $(PACKAGE)
	@touch $@

.venv-compiled/.ready: $(REQUIREMENTS) requirements/compiled.txt $(PACKAGING) | check-python
	@rm -f $@
	@echo '== environment .venv-compiled'
	'$(PYTHON)' -m venv .venv-compiled
	$(COMPILED) $(PIP_INSTALL) -r requirements/build.txt
	@echo '== compiling mmcv takes about 25 minutes on two cores, unless pip still has the wheel'
	MAX_JOBS=$(MAX_JOBS) $(COMPILED) $(PIP_INSTALL) --no-build-isolation $(REQUIREMENTS:%=-r %) \
	  -r requirements/compiled.txt
	$(COMPILED) $(PIP_INSTALL) --no-deps --force-reinstall $(OPENCV)
	$(COMPILED) $(PIP_INSTALL) $(PACKAGE)
	@touch $@

# The site's pages are Markdown; building it needs none of the toolboxes.
.venv-docs/.ready: requirements/docs.txt | check-python
	@rm -f $@
	@echo '== environment .venv-docs'
	'$(PYTHON)' -m venv .venv-docs
	$(DOCS) $(PIP_INSTALL) -r requirements/docs.txt
	@touch $@

# Commands -------------------------------------------------------------------------------------------------------------

define DEMO_SUMMARY
import json, pathlib, sys
demo = pathlib.Path('$(DEMO)')
result = max(demo.glob('test/*/*.json'), key=lambda path: path.stat().st_mtime)
miou = json.loads(result.read_text())['mIoU']
print(f'\nvalidation mIoU: {miou:.1f} % (expected: at least 60 %)')
print(f'images, truth, prediction, pixels that OHEM trains on: {demo / "results.png"}')
print(f'loss curves: {demo / "losses.png"}')
print(f'the training as one page, for a browser: {demo / "report.html"}')
sys.exit(0 if miou >= 60 else 'The demo failed: the mIoU is too low.')
endef
export DEMO_SUMMARY

demo: .venv/.ready
	@rm -rf $(DEMO)
	@echo '== 1/4 data'
	@$(RUN) tools/dataset_converters/make_sample_data.py $(DEMO)/data --train 600 --val 60
	@echo '== 2/4 training'
	@$(RUN) tools/train.py $(DEMO_CONFIG) --work-dir $(DEMO)/train --cfg-options $(DEMO_DATA)
	@echo '== 3/4 evaluation'
	@$(RUN) tools/test.py $(DEMO_CONFIG) "$$(cat $(DEMO)/train/last_checkpoint)" --work-dir $(DEMO)/test \
	  --cfg-options $(DEMO_DATA)
	@echo '== 4/4 pictures'
	@$(RUN) tools/analysis_tools/draw_results.py $(DEMO_CONFIG) "$$(cat $(DEMO)/train/last_checkpoint)" \
	  --out $(DEMO)/results.png --cfg-options $(DEMO_DATA)
	@$(RUN) tools/analysis_tools/plot_losses.py $(DEMO)/train --out $(DEMO)/losses.png
	@$(RUN) -m mmplugins.report $(DEMO)/train --out $(DEMO)/report.html
	@$(RUN) -c "$$DEMO_SUMMARY"

define SHOWCASE_SUMMARY
import json, pathlib
showcase = pathlib.Path('$(SHOWCASE)')
result = max(showcase.glob('test/*/*.json'), key=lambda path: path.stat().st_mtime)
print(f'\nvalidation mIoU: {json.loads(result.read_text())["mIoU"]:.1f} %')
print(f'images, truth, prediction, pixels that OHEM trains on: {showcase / "results.png"}')
print(f'loss curves: {showcase / "losses.png"}')
print('to go on: $(RUN) tools/train.py $(SHOWCASE_CONFIG)')
endef
export SHOWCASE_SUMMARY

showcase: .venv/.ready
	@rm -rf $(SHOWCASE)
	@echo '== 1/4 data'
ifeq ($(DATA),)
	@$(RUN) tools/dataset_converters/make_sample_data.py $(SHOWCASE)/made --train 300 --val 1 --size 192x256
endif
	@$(RUN) tools/dataset_converters/own_folder.py --images '$(SHOWCASE_IMAGES)' --masks '$(SHOWCASE_MASKS)' \
	  $(SHOWCASE_CLASSES) --out $(SHOWCASE)/data
	@echo '== 2/4 training'
	@$(RUN) tools/train.py $(SHOWCASE_CONFIG) --work-dir $(SHOWCASE)/train
	@echo '== 3/4 evaluation'
	@$(RUN) tools/test.py $(SHOWCASE_CONFIG) "$$(cat $(SHOWCASE)/train/last_checkpoint)" \
	  --work-dir $(SHOWCASE)/test
	@echo '== 4/4 pictures'
	@$(RUN) tools/analysis_tools/draw_results.py $(SHOWCASE_CONFIG) \
	  "$$(cat $(SHOWCASE)/train/last_checkpoint)" --out $(SHOWCASE)/results.png
	@$(RUN) tools/analysis_tools/plot_losses.py $(SHOWCASE)/train --out $(SHOWCASE)/losses.png
	@$(RUN) -c "$$SHOWCASE_SUMMARY"

# A process for each core, four at most, each with whole files of tests, as the tests have one thread.
test: lint
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

fuzz: .venv/.ready
	FUZZ_PROFILE=full $(RUN) -m pytest tests/fuzz $(ARGS)

test-compiled: .venv-compiled/.ready
	$(COMPILED) -m pytest tests/ops $(ARGS)

lint: .venv/.ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# From the root: pages are where the files are, and links among them hold in the repository too.
docs: .venv-docs/.ready
	$(DOCS) -m sphinx -W --keep-going -q -b html -c docs . docs/_build/html
	@echo 'written: docs/_build/html/index.html'

bench: .venv/.ready
	$(RUN) benchmarks/benchmark.py $(ARGS)

bench-compiled: .venv-compiled/.ready
	$(COMPILED) benchmarks/benchmark.py $(ARGS)

clean:
	rm -rf .venv .venv-compiled .venv-docs .venv-matrix build dist docs/_build *.egg-info mmplugins/.mim
	rm -rf .pytest_cache .ruff_cache .hypothesis $(DEMO) $(SHOWCASE) work_dirs/benchmark
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# Versions -------------------------------------------------------------------------------------------------------------

.PHONY: test-matrix
# The tests in each environment of requirements/matrix/, a table at the end; MATRIX="NAME ... --once" chooses.
test-matrix:
	python3 tools/dev/test_matrix.py $(MATRIX)
