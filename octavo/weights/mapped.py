"""One file mapped read-only into memory.

Owns the mapping and the advice given to the system about its pages. Does not know what the bytes mean.
"""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

import numpy as np

from octavo.base.errors import ModelFormatError, ModelNotFoundError
from octavo.weights.tensor import Bytes

_GIT_LFS_POINTER = b"version https://git-lfs"


class MappedFile:
    """A read-only mapping of a whole file.

    Raises ModelNotFoundError when there is no such file and ModelFormatError when it can hold no weights at
    all (empty, or the pointer that Git LFS leaves in place of a large file).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise ModelFormatError(path, "the file is empty") from None
        except IsADirectoryError:
            raise ModelFormatError(path, "this is a folder, not a file") from None
        except OSError as error:
            raise ModelNotFoundError(f"cannot open {path}: {error.strerror}") from None
        if self.mapping[: len(_GIT_LFS_POINTER)] == _GIT_LFS_POINTER:
            reason = "this is a Git LFS pointer, not the weights; run `git lfs pull` in its repository"
            raise ModelFormatError(path, reason)
        self._bytes: Bytes | None = np.frombuffer(self.mapping, dtype=np.uint8)

    @property
    def size(self) -> int:
        """File size in bytes."""
        return len(self.mapping)

    def view(self, start: int, nbytes: int) -> Bytes:
        """The bytes [start, start + nbytes), without a copy."""
        if self._bytes is None:
            raise ValueError(f"{self.path} was closed")
        return self._bytes[start : start + nbytes]

    def release(self, start: int, nbytes: int) -> None:
        """Drop the range's pages from this process; a later access reads them from the file again."""
        if self._bytes is None or nbytes == 0:
            return
        first = start - start % mmap.PAGESIZE
        self.mapping.madvise(mmap.MADV_DONTNEED, first, start + nbytes - first)

    def close(self) -> None:
        """Drop the mapping; when views of it are still alive, it goes with the last of them."""
        self._bytes = None
        # While a view is alive the mapping cannot close; it is freed with the view, as its holder needs.
        with contextlib.suppress(BufferError):
            self.mapping.close()
