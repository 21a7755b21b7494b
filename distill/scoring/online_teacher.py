"""`OnlineTeacher`: a teacher that is asked in every step, of the views that the student is about to see."""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from distill.data.expressions import class_columns
from distill.runtimes.image_model import ImageModel
from distill.scoring.caching import as_image_model, inference_model
from distill.scoring.scorer import compile_scoring


class OnlineTeacher:
    """A teacher at hand, for views that no cache holds, such as new ones in every epoch.

    It runs in inference mode while the batches are made, so that the trainer never sees it. It takes its own time
    for every image in every epoch; a cache takes it once.

    Args:
        teacher: takes pixels 0..255 at its own `input_shape`, returns raw logits.
        class_names: the classes that it tells apart, in its own order.

    Raises:
        InputError: it has another number of classes, or ends in a softmax.
    """

    mean = "logits"
    """As of `CachedTeachers`: a single teacher's logits are the mean of themselves."""

    def __init__(self, teacher: keras.Model | ImageModel, *, class_names: Sequence[str]):
        self.class_names = tuple(class_names)
        self.model = as_image_model(teacher, self.class_names)

    def asked_about(
        self, image_shape: tuple[int, int, int], class_names: Sequence[str]
    ) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Return a function that asks: uint8 images [B, *image_shape] and the parameters of a view of each in.

        What it returns are float32 logits [B, C] of `class_names`, in their order; what else it knows is left out.

        Raises:
            InputError: the teacher does not know one of them.
        """
        logits = compile_scoring(inference_model(self.model), image_shape)
        if self.class_names == tuple(class_names):
            return logits
        columns = class_columns(self.class_names, class_names)
        return lambda images_uint8, parameters: logits(images_uint8, parameters)[:, columns]

    def describe(self) -> dict:
        """Return JSON-able facts for a run's record."""
        return {
            "online": True,
            "name": self.model.name,
            "sha256": self.model.sha256,
            "policy": self.model.numeric_policy,
            "input_shape": list(self.model.input_shape),
            "input_format": dict(self.model.input_format),
            "logits_from": self.model.logits_from,
            "class_names": list(self.class_names),
        }
