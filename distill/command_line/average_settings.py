"""`AverageSettings`: the flags that say over which copies of an image a network's logits are averaged."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from distill.runtimes.image_model import AVERAGES

if TYPE_CHECKING:
    from distill.runtimes.image_model import ImageModel


@dataclass(frozen=True, kw_only=True)
class AverageSettings:
    """Over which copies of an image logits are averaged."""

    flip_average: bool = False
    """Average the logits of each image that the network is shown and of its mirror image: usually more accurate, and
    takes twice as long."""
    shift_average: int = 0
    """Average the logits of each image that the network is shown and of it moved by so many pixels towards each of
    its four corners: takes five times as long, and with --flip-average (ten crops) ten times. The documents' figures
    are of 3, at 48x48."""

    def averaging(self, model: "ImageModel") -> "ImageModel":
        """Return `model` with logits that are such averages.

        Raises:
            InputError: its images are too small to be moved so far.
        """
        return replace(model, **{name: getattr(self, name) for name in AVERAGES})
