"""Sets of crops, which views can be instead of drawn at random."""

from dataclasses import dataclass

import numpy as np

from distill.data.view_columns import PARAMETERS, neutral_parameters


@dataclass(frozen=True)
class Crops:
    """Square windows of equal size, cut out of the image after it is scaled to a square."""

    side: int
    """Of the scaled image, pixels."""
    window: int
    """Side of every crop, pixels."""
    offsets: tuple[tuple[int, int], ...]
    """Of each crop in turn, how far its top left corner lies to the right and down, pixels."""

    def parameters(self) -> np.ndarray:
        """Return the parameters of every crop: float32 [len(offsets), len(PARAMETERS)]."""
        rows = np.tile(neutral_parameters(PARAMETERS), (len(self.offsets), 1))
        middle = (self.side - self.window) / 2  # the offset at which a crop needs no shift
        rows[:, PARAMETERS.index("zoom")] = self.side / self.window
        for axis, name in enumerate(("shift_x", "shift_y")):
            rows[:, PARAMETERS.index(name)] = (middle - np.array(self.offsets)[:, axis]) / self.window
        return rows


_FIRST_SEVEN = ((0, 0), (5, 0), (32, 0), (0, 5), (0, 32), (5, 5), (32, 32))

# A set's name changes whenever its crops do: stores are known by it.
CROPS = {
    # Çuğu et al., "MicroExpNet", 2017, https://arxiv.org/abs/1711.07011: no crop is mirrored. As their code cuts
    # them; the last one is rows 5 to 229 and columns 32 to 256.
    "microexpnet_original": Crops(side=256, window=224, offsets=(*_FIRST_SEVEN, (32, 5))),
    # The same, but for the last one, whose rows and columns were taken for each other. It stays for stores and
    # runs that have it.
    "microexpnet": Crops(side=256, window=224, offsets=(*_FIRST_SEVEN, (5, 32))),
}
