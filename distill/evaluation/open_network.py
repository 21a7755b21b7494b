"""`open_network`: an export, a run of this project, or an external network becomes an `ImageModel`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distill.data.class_order import KNOWN, ClassOrder
from distill.data.expressions import canonical_name
from distill.errors import InputError
from distill.files.busy_files import is_there
from distill.files.home import expanded
from distill.prediction.exported_model import ExportedModel, is_exported, open_exported, trained_students
from distill.python_function import recognise as is_function
from distill.refusals import near_paths
from distill.runtimes.foreign_network import ForeignNetwork, with_class_order
from distill.runtimes.image_model import ImageModel
from distill.runtimes.saved_model import recognise as is_saved_model
from distill.runtimes.softmax import from_probabilities

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, eq=False)
class OpenedNetwork:
    """A network, wherever it is from."""

    model: ImageModel
    """What gives the logits, of its `class_names` in their order."""
    exported: ExportedModel | None = None
    """What runs it, where it is an export of this project."""
    trained: "keras.Model | None" = None
    """The network itself, where it lies in a run of this project."""


def open_network(
    source: str | Path, class_names: Sequence[str], *, name_of_classes: str, foreign: ForeignNetwork
) -> OpenedNetwork:
    """Open a network of the classes `class_names`, which it may have in another order where it names them.

    What an export needs is loaded for an export: neither TensorFlow nor Keras.

    Args:
        source: an exported file, or the folder of an export; the directory of a run, or a `.keras` file in one; else
            an external network, as `open_model` takes it.
        name_of_classes: whose classes they are, for messages.
        foreign: what is said of an external network.

    Raises:
        InputError: it cannot be opened, or lacks one of the classes; a run has them in another order; `foreign`
            describes a network that is not external.
    """
    if is_exported(source):
        foreign.refuse(f"describes external networks, and {source} describes itself: omit it")
        opened = _opened_export(open_exported(source))
    elif is_foreign(source):
        _check_is_there(source)
        opened = OpenedNetwork(foreign.open_foreign(str(source), data_classes=class_names, data_name=name_of_classes))
    else:
        foreign.refuse(f"describes external networks, and {source} is a run of this project: omit it")
        opened = _opened_run(source, class_names)
    _check_has(opened.model, class_names, source=source, name_of_classes=name_of_classes)
    return opened


def _check_is_there(source: str | Path) -> None:
    from distill.runs.trained_networks import trained_networks

    if is_function(str(source)) or is_there(expanded(source)):
        return
    names = [*trained_students(), *trained_networks()]
    near = near_paths(expanded(source), names)
    raise InputError(
        f"{source} does not exist{near}; expected the directory of a run or of an export, a name that comes with "
        f"this package ({', '.join(names)}), or an external network"
    )


def is_foreign(source: str | Path) -> bool:
    """Whether `source` means an external network: no export, and in no run's directory."""
    from distill.runs.networks import recorded_run

    if is_exported(source):
        return False
    path = expanded(source)
    return is_saved_model(str(path)) or (not path.is_dir() and recorded_run(path) is None)


def _opened_export(exported: ExportedModel) -> OpenedNetwork:
    described = exported.description
    model = from_probabilities(
        exported.probabilities,
        name=described.name,
        input_shape=described.input_shape,
        classes=len(described.class_names),
        sha256=described.weights_sha256,
    )
    return OpenedNetwork(
        with_class_order(model, ClassOrder(described.class_names, described.class_order)), exported=exported
    )


def _opened_run(source: str | Path, class_names: Sequence[str]) -> OpenedNetwork:
    from distill.runs.networks import check_class_names, load_network
    from distill.scoring.caching import as_image_model

    check_class_names(source, class_names)
    network = load_network(source)
    order = ClassOrder(tuple(class_names), KNOWN)
    return OpenedNetwork(with_class_order(as_image_model(network, order.names), order), trained=network)


def _check_has(model: ImageModel, class_names: Sequence[str], *, source: str | Path, name_of_classes: str) -> None:
    own = set(map(canonical_name, model.class_names))
    if not own.issuperset(map(canonical_name, class_names)):
        raise InputError(
            f"{source} tells apart {', '.join(model.class_names)}, {name_of_classes} {', '.join(class_names)}: give "
            "one that knows all of these classes"
        )
