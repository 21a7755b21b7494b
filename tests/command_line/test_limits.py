"""Numbers beyond their limits are refused before anything is done with them, in a line that says the limit."""

from dataclasses import dataclass, field

import pytest

from distill.command_line.limits import check_limits
from distill.errors import InputError


@dataclass(frozen=True)
class Inner:
    epochs: int = 1


@dataclass(frozen=True)
class Settings:
    threads: int = 1
    max_bytes: int | None = None
    seed: int = 0
    sizes: tuple[int, ...] = ()
    inner: Inner = field(default_factory=Inner)


def test_usual_numbers_pass():
    check_limits(Settings(threads=8, max_bytes=0, seed=2**62, sizes=(1, 2)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(threads=2**31), "threads must be at most 256, received 2147483648"),
        (Settings(max_bytes=-1), "max-bytes must be at least 0, received -1"),
        (Settings(seed=10**23), r"seed must be at most [\d,]+, received 1000"),
        (Settings(sizes=(1, -(10**4000))), "sizes must be at least"),
        (Settings(inner=Inner(epochs=10**23)), "epochs must be at most 1,000,000, received 1"),
    ],
)
def test_others_are_refused_with_the_limit(settings, message):
    with pytest.raises(InputError, match=f"^{message}") as refused:
        check_limits(settings)
    assert len(str(refused.value)) < 150
