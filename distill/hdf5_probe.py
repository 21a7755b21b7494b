"""HDF5 goes round in circles in some damaged files, or ends the process: another process looks at them first.

It is started once, and takes one path after the other; it ends with this process, which alone can write to it.
"""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillReading
from contextlib import suppress
from typing import IO, cast

SECONDS = 30.0
"""Until a file is given up; the structure of a whole one is read in a fraction of a second."""
_PROGRAM = """
import os, sys, h5py
def look(name, each):
    list(each.attrs.items())
for line in sys.stdin:
    try:
        with h5py.File(bytes.fromhex(line), "r") as file:
            look("/", file)
            file.visititems(look)
    except Exception:
        pass  # whoever reads the file says what is wrong
    print("read", flush=True)
"""
_lock = threading.Lock()
_process: subprocess.Popen[str] | None = None


def check_ends(path: str | os.PathLike) -> None:
    """Check that HDF5 gets to an end of what a file says of itself: its groups, data sets and attributes.

    Raises:
        ValueError: it does not, or breaks off the process.
    """
    with _lock:
        process = _running()
        questions, answers = cast(IO[str], process.stdin), cast(IO[str], process.stdout)  # both are pipes
        with suppress(BrokenPipeError):
            questions.write(f"{os.fsencode(os.path.abspath(path)).hex()}\n")
            questions.flush()
        with ThreadPoolExecutor(1) as reader:
            answer = reader.submit(answers.readline)
            try:
                said = answer.result(SECONDS)
            except (StillReading, KeyboardInterrupt) as given_up:
                process.kill()  # which ends the reader, too
                if isinstance(given_up, KeyboardInterrupt):
                    raise
                raise ValueError("HDF5 comes to no end of it") from None
    if said != "read\n":
        raise ValueError("HDF5 does not survive it")


def _running() -> subprocess.Popen[str]:
    global _process
    if _process is None or _process.poll() is not None:
        _process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is not for it
        )
    return _process
