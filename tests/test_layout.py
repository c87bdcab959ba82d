"""The house rules that a machine can hold: sizes, names, what an import pulls in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = sorted((ROOT / "octavo").rglob("*.py"))
CPP = sorted(p for p in (ROOT / "csrc").rglob("*") if p.suffix in {".cpp", ".h", ".inl"} and "tests" not in p.parts)
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
MAX_PYTHON_FILE, MAX_PYTHON_FUNCTION = 450, 60
MAX_CPP_FILE = 600


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_files_and_functions_are_bounded(path: Path) -> None:
    source = path.read_text()
    assert source.count("\n") <= MAX_PYTHON_FILE
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            assert size <= MAX_PYTHON_FUNCTION, f"{path}:{node.lineno} {node.name} has {size} lines"
    assert ast.get_docstring(tree), "a module opens by saying what it owns"


@pytest.mark.parametrize("path", CPP, ids=lambda p: str(p.relative_to(ROOT)))
def test_cpp_files_are_bounded(path: Path) -> None:
    assert path.read_text().count("\n") <= MAX_CPP_FILE


def test_no_module_is_a_drawer_for_everything() -> None:
    assert [p for p in PYTHON + CPP if p.stem in FORBIDDEN_NAMES] == []


def _modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_octavo_pulls_in_nothing_heavy() -> None:
    loaded = _modules_after("import octavo")
    assert not loaded & {"numpy", "torch", "tokenizers", "starlette", "huggingface_hub", "octavo._kernels"}


def test_the_cpu_server_leaves_torch_out() -> None:
    loaded = _modules_after("import octavo.llm, octavo.server.app, octavo.server.launch, octavo.backends.cpu.backend")
    assert not loaded & {"torch", "triton", "ray", "transformers"}


def test_public_names_resolve() -> None:
    import octavo

    for name in octavo.__all__:
        assert getattr(octavo, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        octavo.nonsense  # noqa: B018


def test_only_the_cpu_backend_knows_the_extension() -> None:
    users = [p.relative_to(ROOT) for p in PYTHON if "_kernels" in p.read_text()]
    assert users, "the extension is used somewhere"
    assert {p.parts[:3] for p in users} == {("octavo", "backends", "cpu")}
