# make demo, make test, make lint, make docs, make bench: each makes its own .venv first, with the versions of constraints.txt.
# A stamp remembers what was installed, so that a second run starts at once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
AXE := 4.14.1
MERMAID := 11.17.2
SOURCES := pyproject.toml constraints.txt hatch_build.py $(wildcard gradtrace/recording/native/*.[ch])
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: demo test test-slow compiler shells browser mermaid axe javascript latex lint docs bench wheel clean

demo: $(VENV)/.installed
	$(BIN)/gradtrace render examples/partials.py

test: $(VENV)/.installed-test browser shells mermaid axe latex compiler
	GRADTRACE_NATIVE=require $(BIN)/python -m pytest -n auto

shells: # for the tests of completion, which skip a shell that is not there
	@command -v zsh >/dev/null && command -v fish >/dev/null || { [ "$$(id -u)" = 0 ] && \
	    command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq zsh fish >/dev/null; } || \
	    echo "no zsh or fish: their tests are left out"

browser: # for the tests marked so; where it can't be had, pytest says that they were skipped
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { [ "$$(id -u)" = 0 ] && \
	    command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || \
	    echo "no chromium: its tests are left out"

mermaid: # the same for those that Mermaid itself judges
	@test -f build/mermaid.min.js || { mkdir -p build && cd build && npm pack --silent mermaid@$(MERMAID) >/dev/null 2>&1 && \
	    tar -xzf mermaid-$(MERMAID).tgz --strip-components=2 package/dist/mermaid.min.js && rm mermaid-$(MERMAID).tgz; } || \
	    echo "no Mermaid: its tests are left out"

axe: # the same for those that look for what keeps readers out of the page
	@test -f build/axe.min.js || { mkdir -p build && cd build && npm pack --silent axe-core@$(AXE) >/dev/null 2>&1 && \
	    tar -xzf axe-core-$(AXE).tgz --strip-components=1 package/axe.min.js && rm axe-core-$(AXE).tgz; } || \
	    echo "no axe-core: its tests are left out"

latex: # the same for those that typeset
	@command -v pdflatex >/dev/null && command -v pdftotext >/dev/null || { [ "$$(id -u)" = 0 ] && \
	    command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends \
	    texlive-latex-recommended texlive-pictures poppler-utils >/dev/null; } || \
	    echo "no LaTeX: its tests are left out"

compiler: # the same for those that need a device, which is compiled
	@command -v c++ >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	    apt-get install -y -qq g++ >/dev/null; } || echo "no C++ compiler: the tests on the pretend accelerator are left out"

test-slow: $(VENV)/.installed-test # the million-node graphs, compilers, memory: a quarter of an hour
	GRADTRACE_NATIVE=require $(BIN)/python -m pytest -m slow

# The C part with AddressSanitizer and UBSan, in a copy of the sources, under the tests that reach it: some minutes.
SANITIZE := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -DNO_CLONES
SANITIZED := tests/recording tests/test_undisturbed.py -k "not memory_stays and not million"
.PHONY: test-sanitized
test-sanitized: $(VENV)/.installed-test
	rm -rf build/sanitized && mkdir -p build/sanitized
	cp -r gradtrace tests examples pyproject.toml build/sanitized
	cd build/sanitized/gradtrace/recording/native && $(CC) $(SANITIZE) -fPIC -shared -std=c11 -D_GNU_SOURCE \
	    -I$$($(CURDIR)/$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))') \
	    -o _native.abi3.so *.c -lm
	cd build/sanitized && LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so.6)" \
	    ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
	    GRADTRACE_NATIVE=require PYTHONPATH=$(CURDIR)/build/sanitized $(CURDIR)/$(BIN)/python -m pytest $(SANITIZED)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory javascript
	$(BIN)/python docs/prose.py
	@if command -v actionlint >/dev/null; then actionlint; else echo "no actionlint: the workflows are left out"; fi

javascript: # types and lint of the page's modules, where npm can install what checks them
	@mkdir -p build/javascript && cp tests/viewer/javascript/* build/javascript
	@rm -rf build/javascript/assets && cp -r gradtrace/viewer/assets build/javascript/assets
	@cd build/javascript && if npm install --silent --no-audit --no-fund >/dev/null 2>&1; \
	    then npx tsc -p . && npx eslint assets; else echo "no npm: the page's modules are not checked"; fi

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -W --keep-going -q -j 2 docs docs/_build/html

bench: $(VENV)/.installed # a quarter of an hour; writes docs/benchmarks.md
	$(BIN)/python benchmarks/run.py

wheel: $(VENV)/.installed # the wheel of this machine, for every Python from 3.11, into dist/
	GRADTRACE_NATIVE=require $(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps -w dist .

clean: # all that is made, but not .venv, which takes minutes
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf docs/_build
	rm -f partials.svg
	find gradtrace tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: $(SOURCES) | $(BIN)/python
	GRADTRACE_NATIVE=require $(INSTALL) -e '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(SOURCES) | $(BIN)/python
	$(INSTALL) -e '.[docs]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: $(SOURCES) | $(BIN)/python
	GRADTRACE_NATIVE=require $(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed
