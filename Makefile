# make demo   the whole chain on real EEG, and a table of what it gives
# make test   lint and tests
# Each sets up .venv first if that is needed.

PYTHON ?= python3
RUN := .venv/bin/python
DEMO := --protocol subject --fold 0 --runs-dir runs/demo

.PHONY: demo test lint .venv

demo: .venv/installed
	$(RUN) preprocess_de.py --source eegmat
	$(RUN) Workload-main/3D-UNet_GAN_Workload.py $(DEMO) --epochs 30
	$(RUN) Workload-main/SA-ST_Net_Classifier_Workload.py $(DEMO) --epochs 20
	$(RUN) Workload-main/Finetune_Classifier_Workload.py $(DEMO) --epochs 10
	$(RUN) -m de3dgan.summary --fold-dir runs/demo/workload/subject/fold0

test: .venv/installed lint
	$(RUN) -m pytest -n auto --dist loadfile

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

.venv: .venv/installed

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch .venv/installed
