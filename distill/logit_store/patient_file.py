"""`PatientFile`: a file whose failed writes are reported at the end, because HDF5 does not survive them."""

import os


class PatientFile:
    """A new file for h5py that never fails while it is written to.

    Where a write fails, as on a full disk, HDF5 cannot close its file any more, and ends the process with a
    segmentation fault later. So a failure is kept here, what follows it goes nowhere, and `close` raises it.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = os.fspath(path)
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115 - closed by `close`
        self._failure: OSError | None = None
        self.seek, self.tell = self._file.seek, self._file.tell
        self.readinto, self.flush = self._file.readinto, self._file.flush

    def write(self, content: memoryview) -> int:
        """Write at the present position, as far as that is possible."""
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._keep(error)
        return len(content)

    def truncate(self, size: int | None = None) -> int | None:
        """Change the size, if that is possible."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._keep(error)
            return size

    def close(self) -> None:
        """Close the file, after HDF5 has closed it for itself.

        Raises:
            OSError: what had come in between, the first of it.
        """
        self._file.close()
        failure, self._failure = self._failure, None  # no cycle with its traceback
        if failure is not None:
            raise failure

    def _keep(self, error: OSError) -> None:
        # Not the exception itself: its traceback would hold on to memory that belongs to HDF5.
        self._failure = self._failure or OSError(error.errno, error.strerror, self._path)
