"""`TeacherSettings`: the flags by which commands are given a teacher, of this project or external."""

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from distill.command_line.average_settings import AverageSettings
from distill.data.class_order import KNOWN, class_order_of
from distill.data.dataset import Dataset
from distill.data.expressions import class_columns
from distill.errors import InputError
from distill.refusals import check_known, flag
from distill.runs.run_record import read_record
from distill.runs.trained_networks import trained_networks, trained_path
from distill.runtimes.foreign_network import ForeignNetwork, with_class_order

if TYPE_CHECKING:
    from distill.runtimes.image_model import ImageModel


@dataclass(frozen=True, kw_only=True)
class TeacherSettings(AverageSettings, ForeignNetwork):
    """Which teacher, and how it scores images."""

    teacher: str = "facenet"
    """A trained network that comes with this package; the name of a network, whose --weights are given; or an
    external network, which --input describes: a .keras, .h5, .onnx or .tflite file, a .json file that describes a
    network whose --weights are in an .h5 file, the folder of a SavedModel, or MODULE:FUNCTION. The last two run code
    with your permissions: use only sources you trust. A function is identified by the source of its module; if it
    loads weights, give it an attribute fingerprint, a text that changes with them."""
    weights: str | None = None
    """Trained weights: the directory of a run (or of its folds), a .keras or .weights.h5 file; of a .json file by
    default the .weights.h5 or .h5 file of the same name next to it."""
    image_size: int | None = None
    """Height and width that a network takes; those of the weights by default."""
    policy: str = "float32"
    """"float32", or "mixed_bfloat16", which is faster on processors with bfloat16 units."""

    def open(self, dataset: Dataset, *, weights: str | None = None) -> "ImageModel":
        """Return the teacher of `weights`, by default of those in the settings.

        Its `class_names` are the classes that it tells apart in its own order, `class_order` is how that is known.

        Raises:
            InputError: an unknown teacher; flags that it would ignore; weights of other classes, or none; nothing
                names the classes.
        """
        try:
            model = self._opened(dataset, weights)
        except InputError as error:
            raise InputError(_with_prefix(str(error), self.prefix)) from error
        return self.averaging(model)

    def _opened(self, dataset: Dataset, weights: str | None) -> "ImageModel":
        from distill.runtimes.open_model import is_architecture, is_model_file
        from distill.scoring.caching import as_image_model

        if is_model_file(self.teacher):
            ignored = ("image_size",) if is_architecture(self.teacher) else ("weights", "image_size")
            self._refuse(ignored, "networks of this project: describe a model's file with --input")
            return self.open_foreign(
                self.teacher,
                weights=self.weights,
                data_classes=() if dataset.class_map else dataset.class_names,  # merged ones are not the teacher's
                data_name=dataset.name,
                known=_recorded_classes(self.teacher),
                policy=self.policy,
            )
        self._refuse(("input", "output_type"), "external teachers, whose file is named as --teacher")
        weights = weights or self.weights_path
        recorded = () if weights is None else _recorded_classes(weights)
        order = class_order_of(
            self.teacher,
            given=self.classes,
            known=(),
            data_classes=recorded or dataset.class_names,
            data_name=dataset.name,
        )
        if recorded and not dataset.class_map:
            _check_known(self.teacher, recorded, dataset)
        network = self._network(weights, order.names)  # refuses --classes that are not the recorded ones
        model = as_image_model(network, order.names)
        return with_class_order(model, order._replace(source=KNOWN) if recorded else order)

    def _network(self, weights: str | None, class_names: tuple[str, ...]):
        from distill.runs.networks import build_network, check_class_names
        from teachers import TEACHERS

        check_known(self.teacher, [*TEACHERS, *trained_networks()], what="network")
        if weights is not None:
            check_class_names(weights, class_names)
        elif self.teacher in TEACHERS:
            flags = f"--{self.prefix}teacher {self.teacher}", f"--{self.prefix}weights"
            raise InputError(f"{flags[0]} needs what it learned: give {flags[1]}, such as its run")
        return build_network(
            TEACHERS,
            self._architecture(),
            classes=len(class_names),
            image_size=self.image_size,
            weights=weights,
            policy=self.policy,
        )

    @property
    def weights_path(self) -> str | None:
        """The run or file with what the network learned: `weights`, or that of a trained network.

        Raises:
            InputError: both are given.
        """
        trained = trained_networks().get(self.teacher)
        if trained is None:
            return None if self.weights is None else trained_path(self.weights)
        self._refuse(("weights", "image_size"), "networks that are named without what they learned")
        return str(trained)

    def _architecture(self) -> str:
        trained = trained_networks().get(self.teacher)
        record = None if trained is None else read_record(trained)
        return self.teacher if record is None else record.network.name

    def _refuse(self, names: tuple[str, ...], wanted_by: str) -> None:
        """Refuse settings that would be ignored."""
        default = TeacherSettings()
        given = [name for name in names if getattr(self, name) != getattr(default, name)]
        if given:
            ignored, teacher = f"--{self.prefix}{flag(given[0])}", f"--{self.prefix}teacher {self.teacher}"
            raise InputError(f"{ignored} is not for {teacher}, but for {wanted_by}")


@dataclass(frozen=True, kw_only=True)
class ScoringSettings(TeacherSettings):
    """Which teacher, and how many images it scores at a time."""

    batch_size: int = 256
    """Images in one call of the teacher: views, and their copies where it averages over such."""


@dataclass(frozen=True, kw_only=True)
class OnlineTeacherSettings(TeacherSettings):
    """Which teacher runs in every training step, if any."""

    prefix: ClassVar[str] = "online."

    teacher: str | None = None  # type: ignore[assignment]  # what others require
    """A trained network that comes with this package; the name of a network, whose weights are given; or an external
    model: a .keras, .h5, .json, .onnx or .tflite file, the folder of a SavedModel, or MODULE:FUNCTION. By default
    there is none."""


def _with_prefix(message: str, prefix: str) -> str:
    """Return a message of what knows the flags of a teacher alone, with the names that they have here."""
    flags = "|".join(flag(field.name) for field in fields(TeacherSettings))
    return re.sub(rf"--(?={flags})", f"--{prefix}", message)


def _check_known(teacher: str, class_names: tuple[str, ...], dataset: Dataset) -> None:
    """Check that a teacher of `class_names` knows every class of `dataset`, in whatever order."""
    try:
        class_columns(class_names, dataset.class_names)
    except InputError as error:
        raise InputError(f"{teacher} cannot teach the classes of {dataset.name}: {error}") from None


def _recorded_classes(weights: str) -> tuple[str, ...]:
    """Return the classes that a run was trained on; none where `weights` lie in no run."""
    from distill.runs.networks import recorded_run

    record = recorded_run(weights)
    return () if record is None else record.data.class_names
