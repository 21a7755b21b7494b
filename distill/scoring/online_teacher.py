"""`OnlineTeacher`: a teacher that runs in every step, on the views that the student is about to see."""

from collections.abc import Callable, Collection, Sequence

import keras
import numpy as np

from distill.data.class_map import merge_logits
from distill.data.dataset import Dataset
from distill.data.expressions import class_columns
from distill.data.view_columns import PARAMETERS
from distill.errors import InputError
from distill.losses.objective import FEATURES, LOGITS
from distill.runtimes.image_model import ImageModel
from distill.scoring.caching import as_image_model, inference_model
from distill.scoring.features import LayerFeature, described
from distill.scoring.network_identity import wiring_sha256
from distill.scoring.scorer import compile_outputs


class OnlineTeacher:
    """A teacher that computes its logits, and features, for every batch: for views that no cache holds, such as ever
    new ones.

    It runs in inference mode while the batches are made, so that the trainer never sees it. It takes its own time
    for every image in every epoch; a cache takes it once.

    Args:
        teacher: takes pixels 0..255 at its own `input_shape`, returns raw logits.
        class_names: the classes that it tells apart, in its own order.

    Raises:
        InputError: it has another number of classes, or ends in a softmax.
    """

    view_spec = None
    views = None
    partner_ids = None
    one_temperature = False

    def __init__(self, teacher: keras.Model | ImageModel, *, class_names: Sequence[str]):
        self.class_names = tuple(class_names)
        self.model = as_image_model(teacher, self.class_names)

    def outputs(
        self,
        dataset: Dataset,
        names: Collection[str],
        *,
        temperature: float | None,
        columns: Sequence[str] = PARAMETERS,
    ) -> "OnlineOutputs":
        """Return what computes "logits" of the classes of `dataset`, in their order, and features of any layer.

        Its other classes are left out. "features/conv5" is the mean over all positions, "features/conv5@7" a map of
        7 x 7, as in a store, but in float32.

        Raises:
            InputError: the teacher does not know one of the classes, or has no such output.
        """
        named = sorted(name for name in names if name.startswith(FEATURES))
        layers = {name: LayerFeature.parse(name.removeprefix(FEATURES)) for name in named}
        check_outputs(names, have=(LOGITS, *layers), of=self.model.name)
        described(layers.values(), self.model, dtype="float32")
        model = inference_model(self.model, keep=[each.layer for each in layers.values()])
        outputs = compile_outputs(model, dataset.image_shape, columns, tuple(layers.values()))
        return OnlineOutputs(outputs, tuple(layers), self._to_classes_of(dataset))

    def _to_classes_of(self, dataset: Dataset) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function from its logits to those of the classes of `dataset`."""
        if dataset.class_map:
            return lambda logits: merge_logits(logits, self.class_names, dataset.class_names, dataset.class_map)
        if self.class_names == tuple(dataset.class_names):
            return lambda logits: logits
        of_classes = class_columns(self.class_names, dataset.class_names)
        return lambda logits: logits[:, of_classes]

    def on_extra_data(self, name: str, logits: object | None) -> "OnlineTeacher":
        """Return this teacher, which needs no cached logits of extra data.

        Raises:
            InputError: there are some.
        """
        if logits is not None:
            raise InputError(f"{name} has cached logits, but the teacher of this run is online: omit them")
        return self

    def describe(self) -> dict:
        """Return JSON-able facts for a run's record."""
        return {
            "online": True,
            "name": self.model.name,
            "sha256": self.model.sha256,
            "wiring_sha256": None if self.model.network is None else wiring_sha256(self.model.network),
            "policy": self.model.numeric_policy,
            "input_shape": list(self.model.input_shape),
            "input_format": self.model.scored_as,
            "logits_from": self.model.logits_from,
            "class_names": list(self.class_names),
        }


class OnlineOutputs:
    """Outputs of a teacher for the views of a batch, computed there and then.

    Args:
        outputs: a function from uint8 images [B, H, W, C] and the parameters of their views to float32 [B, K], the
            logits, and [B, ...] of each feature.
        features: what these are called.
        to_classes: from the logits to those of the classes of the data, in its order.
    """

    online = True

    def __init__(
        self,
        outputs: Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]],
        features: Sequence[str],
        to_classes: Callable[[np.ndarray], np.ndarray],
    ):
        self._outputs, self._features, self._to_classes = outputs, features, to_classes

    def __call__(
        self, picked: np.ndarray, views: np.ndarray, images_uint8: np.ndarray, parameters: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return "logits" and features of the images in the views of these parameters."""
        logits, *features = self._outputs(images_uint8, parameters)
        return {LOGITS: self._to_classes(logits), **dict(zip(self._features, features, strict=True))}


def check_outputs(names: Collection[str], *, have: Collection[str], of: str) -> None:
    """Check that a teacher has the outputs that an objective reads.

    Raises:
        InputError: it lacks one.
    """
    missing = sorted(set(names) - set(have))
    if missing:
        raise InputError(f"the objective reads {', '.join(missing)} of the teacher {of}, which has {', '.join(have)}")
