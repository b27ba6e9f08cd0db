# make demo    the whole chain on real EEG, a table of what it gives, and a picture
# make test    lint, and the tests that a change needs
# make test-all   lint and all tests: many kills, thousands of files, simulated studies as well
# make study   five folds of one or more tasks with all baselines and controls, and a report:
#              make study TASK=workload DATA_DIR=<folder of recordings> FOLD_SEEDS="520 521"
#              make study TASK="valence arousal four_class", the paper's tasks
#              make study TASK=valence SOURCE=bids PREPROCESS="--settings faced_bids" DATA_DIR=...
#              make study METHOD=published GAN_EPOCHS=30 ..., the paper's method, for fewer epochs
#              make study PROFILE=slurm, on a cluster
#              make study SNAKEMAKE=--dry-run, what would be done; any options of Snakemake
# make site    pages of the guides and of every public name, in docs/site/html
# make braindecode   what --network needs to train networks of braindecode
# Each sets up .venv first if that is needed. What is finished is not done again.

PYTHON ?= python3
RUN := .venv/bin/python
PYTEST := $(RUN) -m pytest -n auto --dist loadfile
DEMO := --protocol subject --fold 0 --runs-dir runs/demo

# Settings of a study, as workflow/config.yaml has them unless they are given.
GIVEN = $(if $($(1)),$(2)="$($(1))")
STUDY := $(call GIVEN,TASK,tasks) $(call GIVEN,DATA_DIR,data_dir) \
	$(call GIVEN,SOURCE,source) $(call GIVEN,PREPROCESS,preprocess_flags) \
	$(call GIVEN,PROTOCOL,protocol) $(call GIVEN,FOLD_SEEDS,fold_seeds) \
	$(call GIVEN,SEEDS,seeds) $(call GIVEN,METHOD,method) \
	$(call GIVEN,GAN_EPOCHS,gan_epochs) $(call GIVEN,CLASSIFIER_EPOCHS,classifier_epochs) \
	$(call GIVEN,FINETUNE_EPOCHS,finetune_epochs) \
	$(call GIVEN,AUGMENTATIONS,augmentations) $(call GIVEN,AT_ONCE,at_once)
PROFILE ?= default
# Why a study has failed: make says it itself, as the last line, in the place of "Error 2".
REASON := .venv/reason-$(shell echo $$PPID)
END = $(if $(1),$(error $(1)))

.PHONY: demo site braindecode study studied test test-all lint .venv
.PHONY: demo-features demo-generator demo-classifier demo-finetuned demo-virtual demo-summary

# Steps that need nothing of each other run at once, each with half of the cores. One bar at a time.
demo: .venv/installed
	@export OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$$($(RUN) -c \
		"import os; print(max(1, os.cpu_count() // 2))")}; \
		$(MAKE) --no-print-directory --jobs 2 demo-summary

demo-features:
	$(RUN) preprocess_de.py --source eegmat
demo-generator: demo-features
	$(RUN) Workload-main/3D-UNet_GAN_Workload.py $(DEMO)
demo-classifier: demo-features
	TQDM_DISABLE=1 $(RUN) Workload-main/SA-ST_Net_Classifier_Workload.py $(DEMO)
demo-finetuned: demo-generator demo-classifier
	$(RUN) Workload-main/Finetune_Classifier_Workload.py $(DEMO)
demo-virtual: demo-generator
	$(RUN) -m de3dgan.figures.virtual --fold-dir runs/demo/workload/subject/fold0
demo-summary: demo-finetuned demo-virtual
	$(RUN) -m de3dgan.reporting.summary --fold-dir runs/demo/workload/subject/fold0

study: studied
	$(call END,$(shell cat $(REASON) 2>/dev/null; rm -f $(REASON)))

studied: .venv/installed
	$(RUN) workflow/run.py --reason-file $(REASON) \
		--workflow-profile workflow/profiles/$(PROFILE) $(SNAKEMAKE) \
		$(if $(strip $(STUDY)),--config $(STUDY))

test: .venv/installed lint
	$(PYTEST) -m "not slow" --cov --cov-report=term:skip-covered

test-all: .venv/installed lint
	$(PYTEST) --cov --cov-report=term:skip-covered

site: .venv/installed
	rm -rf docs/site/api
	$(RUN) -m sphinx --quiet --fail-on-warning --keep-going -c docs/site . docs/site/html
	@echo docs/site/html/index.html

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

.venv: .venv/installed

braindecode: .venv/installed
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps \
		-r requirements-braindecode.txt

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch .venv/installed
