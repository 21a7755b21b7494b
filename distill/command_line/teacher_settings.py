"""`TeacherSettings`: the flags by which commands are given a teacher, of this project or from elsewhere."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from distill.data.dataset import Dataset
from distill.data.expressions import parse_class_names
from distill.errors import InputError
from distill.runtimes.input_format import InputFormat

if TYPE_CHECKING:
    from distill.runtimes.image_model import ImageModel


@dataclass(frozen=True, kw_only=True)
class TeacherSettings:
    """Which teacher, and how it is asked."""

    prefix: ClassVar[str] = ""
    """What the flags begin with."""

    teacher: str = "facenet"
    """Name of a network, whose --weights are given; or a teacher from elsewhere, which --input describes: a
    .keras, .h5, .onnx or .tflite file, a .json file that describes a network whose --weights lie in an .h5 file, the
    folder of a SavedModel, or MODULE:FUNCTION. The last two are programs: they can do whatever you can do. A
    function is known by the source of its module; where that loads weights, give the function an attribute
    fingerprint, a text that changes with them."""
    weights: str | None = None
    """What a network learned: the directory of its run (or of its folds), a .keras or .weights.h5 file; of a .json
    file by default the .weights.h5 or .h5 file of the same name beside it."""
    classes: str | None = None
    """The teacher's own classes in order, where they are not those of the data: "fer2013", "ferplus", "affectnet",
    "affectnet7", "microexpnet", "ckplus", or names with commas between."""
    image_size: int | None = None
    """Height and width that a network takes; those of the weights by default."""
    input: InputFormat = field(default_factory=InputFormat)
    """What a teacher from elsewhere expects of its pixels."""
    gives: str = "auto"
    """What a teacher from elsewhere gives: "logits", "probabilities", or "auto", which looks."""
    policy: str = "float32"
    """"float32", or "mixed_bfloat16", which is faster on processors with bfloat16 units."""

    def class_names(self, dataset: Dataset, *, weights: str | None = None) -> tuple[str, ...]:
        """Return the classes that the teacher tells apart, in its order.

        Raises:
            InputError: neither the flags, nor the data, nor the run of `weights` names them.
        """
        if self.classes is not None:
            return parse_class_names(self.classes)
        return dataset.class_names or _recorded_classes(weights or self.weights, dataset)

    def open(self, dataset: Dataset, *, weights: str | None = None) -> "ImageModel":
        """Return the teacher of `weights`, by default of those in the settings.

        Raises:
            InputError: an unknown teacher; flags that it would ignore; weights of other classes, or none.
        """
        from distill.runtimes.open_model import is_architecture, is_model_file, open_model
        from distill.scoring.caching import as_image_model

        class_names = self.class_names(dataset, weights=weights)
        if is_model_file(self.teacher):
            ignored = ("image_size",) if is_architecture(self.teacher) else ("weights", "image_size")
            self._refuse(ignored, "networks of this project: describe a model's file with --input")
            model = open_model(
                self.teacher, input_format=self.input, policy=self.policy, gives=self.gives, weights=self.weights
            )
        else:
            self._refuse(("input", "gives"), "teachers from elsewhere, whose file is named as --teacher")
            model = self._network(weights or self.weights, class_names)
        return as_image_model(model, class_names)

    def _network(self, weights: str | None, class_names: tuple[str, ...]):
        from distill.runs.networks import build_network, check_class_names, set_policy
        from teachers import TEACHERS

        if weights is not None:
            check_class_names(weights, class_names)
        elif self.teacher in TEACHERS:
            flags = f"--{self.prefix}teacher {self.teacher}", f"--{self.prefix}weights"
            raise InputError(f"{flags[0]} needs what it learned: give {flags[1]}, such as its run")
        set_policy(self.policy)
        return build_network(
            TEACHERS, self.teacher, classes=len(class_names), image_size=self.image_size, weights=weights
        )

    def _refuse(self, names: tuple[str, ...], wanted_by: str) -> None:
        """Refuse settings that would be ignored."""
        default = TeacherSettings()
        given = [name for name in names if getattr(self, name) != getattr(default, name)]
        if given:
            flag = self.prefix + given[0].replace("_", "-")
            raise InputError(f"--{flag} is not for --{self.prefix}teacher {self.teacher}, but for {wanted_by}")


@dataclass(frozen=True, kw_only=True)
class ScoringSettings(TeacherSettings):
    """Which teacher, and how it is asked about many images at a time."""

    batch_size: int = 256
    """Rendered views in one call of the teacher."""


@dataclass(frozen=True, kw_only=True)
class OnlineTeacherSettings(TeacherSettings):
    """Which teacher is asked in every step, if any."""

    prefix: ClassVar[str] = "online."

    teacher: str | None = None
    """Name of a network, whose weights are given; or a teacher from elsewhere: a .keras, .h5, .json, .onnx or .tflite
    file, the folder of a SavedModel, or MODULE:FUNCTION. By default none is asked."""


def _recorded_classes(weights: str | None, dataset: Dataset) -> tuple[str, ...]:
    from distill.runs.networks import recorded_run

    record = None if weights is None else recorded_run(weights)
    if record is None:
        raise InputError(f"{dataset.name} has no labels: name the teacher's classes with --classes, such as fer2013")
    return record.data.class_names
