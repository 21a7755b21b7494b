"""`UnlockedFile`: a store to read, whoever else has it open."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

_SUPERBLOCK = 48
_VERSION, _OFFSET_BYTES, _FLAGS, _CHECKSUM = 8, 9, 11, 44
"""Where the superblock of HDF5 1.10 has its version, the size of offsets, who has it open, and its checksum."""


class UnlockedFile:
    """A file for h5py to read, without a lock, that never fails while it is read.

    HDF5 marks a file that a program opens for writing, and refuses to read a marked one; the mark of a program that
    was killed stays for ever. Here it is left out. Where the system fails to read, HDF5 is given zeros, because it
    does not survive an exception, and `failure` says why.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = os.fspath(path)
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by `close`
        self.failure: OSError | None = None
        self.opened_for_writing = False
        """Whether the file says that a program has, or had when it was killed."""
        self._superblock = self._unmarked(self._try(lambda: self._file.read(_SUPERBLOCK), b""))

    def __enter__(self) -> "UnlockedFile":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, and return it."""
        return self._try(lambda: self._file.seek(offset, whence), 0)

    def tell(self) -> int:
        """Return the position."""
        return self._try(self._file.tell, 0)

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer` from the position on, as far as there are bytes, and return how many were."""
        start, count = self.tell(), 0
        while count < len(buffer):
            read = self._try(partial(self._file.readinto, buffer[count:]), 0)
            if not read:
                break
            count += read
        if self.failure is not None:
            buffer[:] = bytes(len(buffer))
            return len(buffer)
        overlap = self._superblock[start : start + count]
        buffer[: len(overlap)] = overlap
        return count

    def _try(self, call: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return call()
        except OSError as error:
            # Not the exception itself: its traceback would hold on to memory that belongs to HDF5.
            self.failure = self.failure or OSError(error.errno, error.strerror, self._path)
            return otherwise

    def _unmarked(self, superblock: bytes) -> bytes:
        """Return the superblock without the mark; one that does not match its checksum stays as it is."""
        if len(superblock) < _SUPERBLOCK or superblock[_VERSION] != 3 or superblock[_OFFSET_BYTES] != 8:
            return superblock
        if _checksum(superblock[:_CHECKSUM]) != superblock[_CHECKSUM:] or not superblock[_FLAGS]:
            return superblock
        self.opened_for_writing = True
        unmarked = superblock[:_FLAGS] + b"\0" + superblock[_FLAGS + 1 : _CHECKSUM]
        return unmarked + _checksum(unmarked)


def _checksum(content: bytes) -> bytes:
    """Return HDF5's checksum of its own structures: Bob Jenkins' lookup3 (hashlittle), begun with 0."""
    a = b = c = (0xDEADBEEF + len(content)) & 0xFFFFFFFF
    padded = content + bytes(-len(content) % 12)
    words = [int.from_bytes(padded[start : start + 4], "little") for start in range(0, len(padded), 4)]
    for start in range(0, len(words), 3):
        a, b, c = ((x + word) & 0xFFFFFFFF for x, word in zip((a, b, c), words[start : start + 3], strict=True))
        if start + 3 < len(words):
            a, b, c = _mixed(a, b, c)
    for bits in (14, 11, 25, 16, 4, 14, 24):
        a, b, c = b, (c ^ b) - _rotated(b, bits) & 0xFFFFFFFF, a
    return b.to_bytes(4, "little")


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):
        a, b, c = b, c + b & 0xFFFFFFFF, (a - c & 0xFFFFFFFF) ^ _rotated(c, bits)
    return a, b, c


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & 0xFFFFFFFF
