# Every door of the project. `make app` and `make test` need nothing but Python >= 3.11 and a registry.
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
PORT ?= 8501
# An index that serves torch's CPU build (opt-in): TORCH_INDEX=https://... make app
TORCH_INDEX ?=
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX),)
WORKERS ?= 2

.PHONY: app install dev chromium lint type test slow browser bench viewer lock clean

$(VENV)/bin/python:
	python3 -m venv $(VENV)

$(VENV)/.installed: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) install -q $(INDEX) -r requirements.txt
	$(PIP) install -q --no-deps -e .
	touch $@

$(VENV)/.dev: requirements-dev.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) install -q $(INDEX) -r requirements-dev.txt
	$(PIP) install -q --no-deps -e .
	touch $@ $(VENV)/.installed

install: $(VENV)/.installed

dev: $(VENV)/.dev

app: install
	$(VENV)/bin/spatialformer demo
	$(VENV)/bin/spatialformer serve --port $(PORT)

# Browser tests need the distribution's Chromium; where it cannot be installed they skip with a reason.
chromium:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || true

lint: dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

type: dev
	$(VENV)/bin/mypy

test: dev chromium
	$(VENV)/bin/pytest -n $(WORKERS) --dist loadfile

slow: dev chromium
	$(VENV)/bin/pytest -m slow

browser: dev chromium
	$(VENV)/bin/pytest -m "browser and not slow"

bench: dev
	for stage in data model screen app; do $(VENV)/bin/spatialformer bench --stage $$stage || exit 1; done

viewer:
	cd pages/ui/viewer && npm ci --ignore-scripts --no-audit --no-fund && npm run build

lock: dev
	$(VENV)/bin/pip-compile -q --strip-extras --no-annotate --no-header --no-emit-index-url \
	  --no-emit-find-links -o requirements.txt pyproject.toml
	$(VENV)/bin/pip-compile -q --strip-extras --extra dev --no-annotate --no-header \
	  --no-emit-index-url --no-emit-find-links -c requirements.txt -o requirements-dev.txt pyproject.toml
	sed -i -E 's/(torch==[0-9.]+)\+cpu/\1/' requirements.txt requirements-dev.txt

clean:
	rm -rf build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
