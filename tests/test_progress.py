"""What a long task says of itself where nobody watches: whole lines, and few."""

import io
import logging
import sys

import pytest

from distill.progress import progress_bar
from distill.quiet import without_retracing_warnings


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("leave", [True, False])
def test_a_log_gets_whole_lines_and_no_carriage_return(monkeypatch, leave):
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    with progress_bar(total=1000, desc="small 1/1", unit="image", leave=leave) as bar:
        for _ in range(1000):
            bar.set_postfix(loss="0.5", refresh=False)
            bar.update(1)
    written = log.getvalue()
    lines = written.splitlines()
    assert "\r" not in written
    assert "" not in lines
    assert 1 <= len(lines) <= 3  # the beginning, the end, and what took longer than half a minute
    if leave:
        assert lines[-1].startswith("small 1/1: 100% 1000/1000 [")
        assert "loss=0.5" in lines[-1]


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    list(progress_bar(range(3), desc="epochs"))
    assert "\r" in terminal.getvalue()


def test_tensorflow_does_not_warn_of_retracing(caplog):
    without_retracing_warnings()
    logger = logging.getLogger("tensorflow")
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        logger.addHandler(caplog.handler)
        logger.warning("5 out of the last %s calls to %s triggered tf.function retracing. Tracing is ...", 6, "<f>")
        logger.warning("another warning")
        logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"another warning"}
