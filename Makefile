# make demo    the whole chain on real EEG, and a table of what it gives
# make test    lint and tests
# make study   five folds of a task with all baselines and controls, and a report:
#              make study TASK=workload DATA_DIR=<folder of recordings> SEEDS="520 521"
#              make study METHOD=published GAN_EPOCHS=30 ..., the paper's method, for fewer epochs
# Each sets up .venv first if that is needed. What is finished is not done again.

PYTHON ?= python3
RUN := .venv/bin/python
DEMO := --protocol subject --fold 0 --runs-dir runs/demo

TASK ?= workload
DATA_DIR ?=
PROTOCOL ?= subject
SEEDS ?= 520
METHOD ?= spectral
# As the scripts say, unless they are given.
GAN_EPOCHS ?=
CLASSIFIER_EPOCHS ?=
FINETUNE_EPOCHS ?=
NAME_valence := Valence
NAME_arousal := Arousal
NAME_four_class := Four_Class
NAME_workload := Workload
NAME := $(NAME_$(TASK))
FOLDER := $(if $(filter valence,$(TASK)),.,$(NAME)-main)
SOURCE := $(if $(filter workload,$(TASK)),eegmat,deap)
STORE := DE_feature/study-$(SOURCE)
RUNS := runs/study$(if $(filter published,$(METHOD)),-published)

.PHONY: demo study test lint .venv

demo: .venv/installed
	$(RUN) preprocess_de.py --source eegmat
	$(RUN) Workload-main/3D-UNet_GAN_Workload.py $(DEMO)
	$(RUN) Workload-main/SA-ST_Net_Classifier_Workload.py $(DEMO)
	$(RUN) Workload-main/Finetune_Classifier_Workload.py $(DEMO)
	$(RUN) -m de3dgan.summary --fold-dir runs/demo/workload/subject/fold0

study: .venv/installed
	$(if $(NAME),,$(error There is no task "$(TASK)": give TASK=workload, valence, arousal or four_class))
	$(RUN) preprocess_de.py --source $(SOURCE) --out-dir $(STORE) \
		$(if $(DATA_DIR),--data-dir "$(DATA_DIR)")
	set -e; for seed in $(SEEDS); do for fold in 0 1 2 3 4; do \
		where="--data-dir $(STORE) --runs-dir $(RUNS)/seed$$seed --seed $$seed"; \
		where="$$where --method $(METHOD) --protocol $(PROTOCOL) --fold $$fold"; \
		$(RUN) $(FOLDER)/3D-UNet_GAN_$(NAME).py $$where \
			$(if $(GAN_EPOCHS),--epochs $(GAN_EPOCHS)); \
		$(RUN) $(FOLDER)/SA-ST_Net_Classifier_$(NAME).py $$where \
			$(if $(CLASSIFIER_EPOCHS),--epochs $(CLASSIFIER_EPOCHS)); \
		for augmentation in generated none noise surrogate shuffled; do \
			$(RUN) $(FOLDER)/Finetune_Classifier_$(NAME).py $$where \
				--augmentation $$augmentation \
				$(if $(FINETUNE_EPOCHS),--epochs $(FINETUNE_EPOCHS)); \
		done; \
	done; done
	$(RUN) report.py --runs-dir $(RUNS)

test: .venv/installed lint
	$(RUN) -m pytest -n auto --dist loadfile --cov --cov-report=term:skip-covered

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

.venv: .venv/installed

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch .venv/installed
