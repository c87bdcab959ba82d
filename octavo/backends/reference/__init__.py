"""The reference backend: NumPy, float32, eager. It defines what every op means and is slow on purpose."""

from octavo.backends.reference.backend import ReferenceBackend

__all__ = ["ReferenceBackend"]
