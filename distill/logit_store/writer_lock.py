"""`WriterLock`: two processes never write the same rows of one store."""

import errno
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from distill.errors import InputError
from distill.logit_store.parts import PART_FILES, Shard

# Writers that begin at once look at each other's locks, for a moment each; that is no reason to give up.
_PROBE_SECONDS = 1
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}  # as on some network shares


class WriterLock:
    """Held while a process writes into a folder of parts. The system lets go of it when the process ends.

    Writers of different shards work side by side. A writer of the whole store works alone, because it removes
    the folder in the end.
    """

    def __init__(self, folder: Path, shard: Shard | None):
        name = "whole" if shard is None else f"{shard.number}-of-{shard.of}"
        self._folder = folder
        self._own = FileLock(folder / f"writer-{name}.lock", timeout=0)
        self._others = "writer-*.lock" if shard is None else "writer-whole.lock"

    def acquire(self) -> None:
        """Take the lock, unless it is held already.

        Raises:
            InputError: another process, or another writer of this one, writes here; or there are no locks here.
            OSError: it cannot be written here.
        """
        if self._own.is_locked:
            return
        is_new = not self._folder.exists()
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._own.acquire()
            for other in self._folder.glob(self._others):
                if str(other) != self._own.lock_file:
                    with FileLock(other, timeout=_PROBE_SECONDS):
                        pass
        except Timeout:
            self.release()
            raise InputError(
                f"another process is writing into {self._folder}: wait until it has finished, choose another "
                "--out, or share the work with --shard 1/2 and --shard 2/2"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            if is_new:
                with suppress(OSError):
                    Path(self._own.lock_file).unlink(missing_ok=True)
                    self._folder.rmdir()
            raise InputError(
                f"{self._folder} cannot be locked ({error.strerror}): its file system offers no locks, choose --out "
                "on a local disk"
            ) from error

    def release(self) -> None:
        """Let go of the lock, if it is held; where nothing was written, no folder is left."""
        if not self._own.is_locked:
            return
        with suppress(OSError):
            if not any(self._folder.glob(PART_FILES)):
                Path(self._own.lock_file).unlink(missing_ok=True)
        self._own.release()
        with suppress(OSError):  # it is not empty
            self._folder.rmdir()
