# Every command of daily work. They need python3.11 or newer with pip, and make; everything else they install themselves.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV ?= .venv
PY := $(VENV)/bin/python
# Tests wait about half of their time: twice as many processes as cores, eight at most.
TEST_PROCESSES ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores > 4 ? 8 : 2 * cores)))
export HF_HUB_OFFLINE ?= 1

.PHONY: help run install models logs test test-browser test-ops audit test-s3 test-faults test-attacks bench-postprocess lint format manage backup restore restore-to drill-restore bench-overhead bench-engine bench-queue bench-grouping bench-api bench-cache bench-cost bench-models clean

help:
	@echo "make run              start everything; PORT and VAR_DIR choose the port and the data folder, HOST the address"
	@echo "make logs TASK=img..  one task's life over the logs of all processes, in order; VAR_DIR chooses the run"
	@echo "make test             run the tests beside throw-away services; ARGS='-k name' passes options to pytest"
	@echo "make test-browser     the page in this machine's Chromium, beside the whole product"
	@echo "make test-s3          storage against real S3 servers (OpenStack Swift, Ceph, moto), behind a proxy that does harm"
	@echo "make lint             ruff, mypy and the import contracts"
	@echo "make audit            known vulnerabilities of the installed packages (asks PyPI, or AUDIT_SERVICE=osv)"
	@echo "make format           put the code into shape"
	@echo "make manage ARGS=...  one of Django's commands against the running product"
	@echo "make models ARGS=...  public models and your own: presets, pull sdxl, import FILE, list, check, remove (docs/models.md)"
	@echo "make backup TO=FILE   save the database of the running product; make restore FROM=FILE brings it back"
	@echo "make restore-to AT=.. the stopped product's database as it was at a moment (UTC), from BACKUP_DIR; drill-restore tries it"
	@echo "make test-ops         dashboards, alert rules, compose and manifests by the programs they are for, and the product watched"
	@echo "make test-faults      break one process or server at a time under work; FAULTS=all for every fault at every moment"
	@echo "make test-attacks     one customer attacks the running product, another one's answers are timed"
	@echo "make bench-overhead   what the platform adds to a task; bench-engine, bench-queue, bench-grouping: the parts"
	@echo "make bench-models     the shipped models by each runtime: passes, whole pictures, likeness, the judge"
	@echo "make bench-postprocess  images/s and memory of each step beside plain OpenCV and Pillow"

install:
	@$(PYTHON) deploy/install.py $(VENV)

run: install
	@exec $(PY) -m deploy.run --stop-with-parent

logs: install
	@$(PY) -m deploy.monitoring.task_log $(TASK)

test: install
	@exec $(PY) -m deploy.services run -- $(PY) -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

test-ops: install
	@TEST_OPS=1 exec $(PY) -m deploy.services run -- $(PY) -m pytest deploy/monitoring $(ARGS)

test-browser: install
	@$(PY) -m deploy.browser $(VENV)
	@TEST_BROWSER=1 exec $(PY) -m deploy.services run -- $(PY) -m pytest generation/page/tests/browser $(ARGS)

test-faults: install
	@exec $(PY) -m workers.tests.faults $(ARGS)

test-attacks: install
	@exec $(PY) -m workers.tests.attacks $(ARGS)

test-s3: install
	@TEST_S3=1 exec $(PY) -m deploy.services run -- $(PY) -m pytest storage/tests/s3 $(ARGS)

lint: install
	@code=0; export SECRET_KEY=lint; \
	 $(PY) -m ruff check . || code=1; \
	 $(PY) -m ruff format --check . || code=1; \
	 $(PY) -m mypy . || code=1; \
	 $(VENV)/bin/lint-imports || code=1; \
	 exit $$code

audit: install
	@exec $(PY) -m deploy.audit $(VENV)

format: install
	@$(PY) -m ruff check --fix-only --quiet . && $(PY) -m ruff format .

manage: install
	@exec $(PY) -m deploy.manage $(ARGS)

models: install
	@exec $(PY) -m deploy.manage models $(or $(ARGS),--help)

backup: install
	@exec $(PY) -m deploy.backup save $(if $(TO),$(TO),$(error say where to: make backup TO=/backups/imagegenx.dump))

restore: install
	@exec $(PY) -m deploy.backup restore $(if $(FROM),$(FROM),$(error say from where: make restore FROM=/backups/imagegenx.dump))

restore-to: install
	@exec $(PY) -m deploy.wal_restore $(if $(AT),--at $(AT))

drill-restore: install
	@exec $(PY) -m deploy.wal_drill

bench-api: install
	@exec $(PY) -m deploy.services run -- $(PY) -m deploy.bench.api $(ARGS)

bench-cache: install
	@exec $(PY) -m deploy.services run -- $(PY) -m deploy.bench.api.cache $(ARGS)

bench-overhead bench-engine bench-queue bench-grouping: install
	@exec $(PY) -m deploy.services run -- $(PY) -m deploy.bench.$(subst bench-,,$@) $(ARGS)

bench-cost: install
	@exec $(PY) -m deploy.bench.cost $(ARGS)

bench-models: install
	@exec $(PY) -m deploy.bench.models $(ARGS)

bench-postprocess: install
	@exec $(PY) -m deploy.bench.postprocess $(ARGS)

clean:
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
