# Octavo's commands. `make serve` and `make test` do all the set-up they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := CMakeLists.txt pyproject.toml $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.inl' 2>/dev/null)
ARGS ?=

.PHONY: all check lint types imports test test-fast test-cpp test-neon neon-tools serve soak wheel clean

all: check test-fast

$(VENV)/.base: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Octavo needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(BIN)/pip install -q --disable-pip-version-check -e .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -c "import tomllib; extras = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']; \
	  print(*extras['test'], *extras['lint'], sep='\n')" > $(VENV)/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check -r $(VENV)/dev.txt
	touch $@

serve: $(VENV)/.base
	$(BIN)/octavo serve $(ARGS)

test: $(VENV)/.dev lint types imports test-cpp
	$(BIN)/pytest $(ARGS)

test-fast: $(VENV)/.dev
	$(BIN)/pytest $(ARGS)

check: lint types imports

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

# What the reference backend says, as a file for the programs below.
build/vectors.bin: $(VENV)/.dev tools/kernel_vectors.py $(wildcard octavo/backends/reference/*.py)
	$(BIN)/python -m tools.kernel_vectors $@

# The kernels' own tests: plain C++ programs over raw pointers.
test-cpp: build/vectors.bin
	cmake -S . -B build/csrc -DOCTAVO_BUILD_PYTHON=OFF -DOCTAVO_BUILD_TESTS=ON > build-csrc.log 2>&1 || { cat build-csrc.log; exit 1; }
	cmake --build build/csrc -j 2 >> build-csrc.log 2>&1 || { cat build-csrc.log; exit 1; }
	rm -f build-csrc.log
	ctest --test-dir build/csrc --output-on-failure

# The same programs for aarch64, cross-compiled and run by qemu: all of them as a processor that has every level, and
# what depends on the level as two that lack the upper ones. NEON_GRID=full: all shapes.
NEON_GRID ?= small
NEON_RUN = OCTAVO_TEST_EMULATED=1 ctest --test-dir build/neon --output-on-failure -j 2
neon-tools:
	@for tool in aarch64-linux-gnu-g++ qemu-aarch64 cmake ctest; do command -v $$tool > /dev/null || { \
	  echo "make test-neon needs $$tool, which is not here. On Debian and Ubuntu: apt-get install" \
	    "g++-aarch64-linux-gnu qemu-user cmake"; exit 1; }; done

test-neon: neon-tools build/vectors.bin
	cmake -S . -B build/neon -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DOCTAVO_BUILD_PYTHON=OFF \
	  -DOCTAVO_BUILD_TESTS=ON > build-neon.log 2>&1 || { cat build-neon.log; exit 1; }
	cmake --build build/neon -j 2 >> build-neon.log 2>&1 || { cat build-neon.log; exit 1; }
	rm -f build-neon.log
	QEMU_CPU=cortex-a53 OCTAVO_TEST_ISA=neon OCTAVO_TEST_GRID=small $(NEON_RUN) -R 'isa|linear|vectors'
	QEMU_CPU=neoverse-n1 OCTAVO_TEST_ISA=neon_dotprod OCTAVO_TEST_GRID=small $(NEON_RUN) -R 'isa|linear|vectors'
	QEMU_CPU=max OCTAVO_TEST_ISA=neon_i8mm OCTAVO_TEST_GRID=$(NEON_GRID) $(NEON_RUN)

soak: $(VENV)/.dev
	$(BIN)/pytest -m soak -v --durations=0 $(ARGS) > build/soak.txt 2>&1; status=$$?; tail -n 40 build/soak.txt; \
	  { date -u +%Y-%m-%d; grep -E 'PASSED|FAILED|ERROR|passed|failed' build/soak.txt; } > tests/soak-result.txt; exit $$status

wheel:
	$(PYTHON) -m pip wheel --no-deps -w dist .

clean:
	rm -rf build dist $(VENV)
