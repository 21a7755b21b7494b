"""Another process opens an external network first, and asks it about a few images.

An external graph is a program: it can come to no end, ask for more memory than there is, or meet a fault of its
runtime that ends the process. Here that ends another process, on the CPU, with limits.
"""

import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from distill.answering_process import AnsweringProcess, NoAnswerError
from distill.errors import InputError
from distill.refusals import reason
from distill.runtimes.input_format import InputFormat
from distill.runtimes.softmax import probe_images

SECONDS = 180.0
"""For loading a network and asking it about eight images."""
_PROGRAM = "import sys; sys.path[:] = {path!r}; from distill.runtimes.first_image import answer_questions as go; go()"
_NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
_OUT_OF_MEMORY = re.compile(
    r"alloc|out of memory|memory.*exhausted|RESOURCE_EXHAUSTED|ResourceExhausted|\bOOM\b", re.IGNORECASE
)
_process: AnsweringProcess | None = None


def check_first_image(source: str, input_format: InputFormat, policy: str, output_type: str, **more: str) -> None:
    """Check that a network can be opened, and that it answers, within limits of time and memory.

    Args:
        source, input_format, policy, output_type, more: as of `distill.runtimes.open_model.open_model`.

    Raises:
        InputError: it gives no answer in `SECONDS`; it ends the process, as one does that asks
            for more memory than the machine has.
    """
    global _process
    if _process is None:
        _process = AnsweringProcess("-c", _PROGRAM.format(path=sys.path), environment={**os.environ, **_NO_GPU})
    question = {"folder": os.getcwd(), "source": source, "policy": policy, "output_type": output_type, "more": more}
    try:
        answer = _process.ask(json.dumps({**question, "input_format": asdict(input_format)}), seconds=SECONDS)
    except NoAnswerError as problem:
        raise InputError(
            f"{source} was opened in another process, to see whether it gives an answer: {problem}. "
            "A network that needs more time or memory can be given as a Python function, MODULE:FUNCTION"
        ) from None
    refused = json.loads(answer)
    if refused is not None:
        raise InputError(refused)


def answer_questions() -> None:
    """Open one network after the other that the standard input names, and say why one is refused.

    The main program of the other process.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what a runtime prints is not an answer
    _limit_memory()
    for line in sys.stdin:
        question = json.loads(line)
        os.chdir(question["folder"])
        print(json.dumps(_refusal(question)), file=answers, flush=True)


def _refusal(question: dict[str, Any]) -> str | None:
    from distill.runtimes.open_model import format_of

    described: dict[str, Any] = question["input_format"]
    described = {key: tuple(each) if isinstance(each, list) else each for key, each in described.items()}
    model_format = format_of(question["source"])
    if model_format is None:
        return None  # it is gone: whoever opens it says so
    stated = question["source"], InputFormat(**described), question["policy"], question["output_type"]
    try:
        model = model_format.open(*stated, **question["more"])
        model.predict(probe_images(model.input_shape))
    except Exception as error:  # noqa: BLE001 - the process that asks knows more, such as classes that it registered
        if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error).replace(question["source"], "")):
            return (
                f"{question['source']} asks for more memory than this machine has: {reason(error.__cause__ or error)}"
            )
    return None


def _limit_memory() -> None:
    """Let it ask for no more than the machine has; where memory runs out, it is the one to end."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    with suppress(ImportError, OSError, ValueError):  # not on Windows
        import resource

        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_DATA, (total, total))
