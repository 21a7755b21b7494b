"""A fixture for all tests of the training."""

import pytest

from distill.runs.run_directory import RunDirectory


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Draw no curves, which would take half of the time of so small a run: the tests of commands and reports do."""
    monkeypatch.setattr(RunDirectory, "_draw_curves", lambda run: None)
