"""Another process that looks at files first, where a library may come to no end in them or end its process.

It is started once, takes one line after the other and answers each with one. It ends when nothing was asked for a
while, and with this process, which alone can write to it.
"""

import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillAnswering
from contextlib import suppress
from typing import IO, cast

_IDLE_SECONDS = 30.0
"""After which it is ended: a long run does not keep its memory."""


class NoAnswerError(Exception):
    """The process did not answer in time, or ended instead; the message says which."""


class AnsweringProcess:
    """Runs a Python program that reads questions and prints answers, a line each. Threads may share it."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None):
        """Describe the process; the first question starts it.

        Args:
            arguments: of the Python interpreter.
            environment: of the process; by default this one's.
        """
        self._arguments = arguments
        self._environment = environment
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._end_when_idle = threading.Timer(_IDLE_SECONDS, self.end)

    def end(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            self._end()

    def _end(self) -> int | None:
        """End the process, and return its exit code."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        process.kill()
        process.communicate()  # closes the pipes, too
        return process.returncode

    def ask(self, question: str, *, seconds: float) -> str:
        """Return the answer to one line.

        Raises:
            NoAnswerError: none came in so many seconds, after which the process is ended, or it ended itself.
        """
        self._end_when_idle.cancel()
        try:
            with self._lock:
                return self._answer(question, seconds)
        finally:
            self._end_when_idle = threading.Timer(_IDLE_SECONDS, self.end)
            self._end_when_idle.daemon = True
            self._end_when_idle.start()

    def _answer(self, question: str, seconds: float) -> str:
        process = self._running()
        questions, answers = cast(IO[str], process.stdin), cast(IO[str], process.stdout)  # both are pipes
        with suppress(BrokenPipeError):
            questions.write(f"{question}\n")
            questions.flush()
        with ThreadPoolExecutor(1) as reader:
            answer = reader.submit(answers.readline)
            try:
                said = answer.result(seconds)
            except (StillAnswering, KeyboardInterrupt) as given_up:
                process.kill()  # which ends the reader, too
                answer.result()
                self._end()
                if isinstance(given_up, KeyboardInterrupt):
                    raise
                raise NoAnswerError(f"no end in {seconds:.0f} seconds") from None
        if not said.endswith("\n"):
            raise NoAnswerError(f"it ended the process, exit code {self._end()}")
        return said[:-1]

    def _running(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C is not for it
            )
        return self._process
