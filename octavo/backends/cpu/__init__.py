"""The CPU backend: a forward is recorded once, planned, and replayed by the C++ pool, one call a step."""

from octavo.backends.cpu.backend import CpuBackend

__all__ = ["CpuBackend"]
