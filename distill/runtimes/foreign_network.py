"""`ForeignNetwork`: the description of an external network: what its file does not say."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, ClassVar

from distill.data.class_order import ClassOrder, class_order_of
from distill.data.expressions import class_columns
from distill.errors import InputError
from distill.refusals import flag
from distill.runtimes.image_model import ImageModel
from distill.runtimes.input_format import InputFormat
from distill.runtimes.softmax import AUTO

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class ForeignNetwork:
    """What an external network expects and gives, and its classes. Settings that take one inherit its flags."""

    prefix: ClassVar[str] = ""
    """What the flags begin with."""

    classes: str | None = None
    """The network's own classes in order, where they are not those of the data: "alphabetical" (the names of the
    data sorted, as folder readers do), "fer2013", "ferplus", "affectnet", "affectnet7", "rafdb", "microexpnet",
    "ckplus", "ckextended", or names with commas between."""
    input: InputFormat = field(default_factory=InputFormat)
    """How an external network expects its pixels."""
    output_type: str = AUTO
    """Output of an external network: "logits", "probabilities", or "auto" to detect it."""

    @property
    def stated(self) -> tuple[str, ...]:
        """Names of the flags that say something."""
        default = ForeignNetwork()
        names = [each.name for each in fields(ForeignNetwork)]
        return tuple(name for name in names if getattr(self, name) != getattr(default, name))

    def refuse(self, why: str) -> None:
        """Refuse flags that would be ignored.

        Raises:
            InputError: one is given; `why` says what they are for.
        """
        if self.stated:
            raise InputError(f"--{self.prefix}{flag(self.stated[0])} {why}")

    def open_foreign(
        self,
        source: str,
        *,
        weights: str | None = None,
        data_classes: Sequence[str],
        data_name: str,
        known: Sequence[str] = (),
        policy: str = "float32",
    ) -> ImageModel:
        """Open an external network; its `class_names` and `class_order` describe its classes.

        Args:
            source, weights: as of `open_model`.
            data_classes: of the data, which are assumed to be the network's where nothing names its own.
            data_name: for messages.
            known: the classes in a record next to the file.
            policy: as of `open_model`.

        Raises:
            InputError: what `open_model` and `class_order_of` refuse; classes that are not as many as its outputs.
        """
        from distill.runtimes.open_model import open_model

        model = open_model(
            source, input_format=self.input, policy=policy, output_type=self.output_type, weights=weights
        )
        order = class_order_of(
            source,
            given=self.classes,
            known=known or model.class_names,
            data_classes=data_classes,
            data_name=data_name,
        )
        return with_class_order(model, order)


def in_order_of(model: ImageModel, class_names: Sequence[str]) -> "keras.Model":
    """Return the Keras network of `model` with the logits of the classes `class_names`, found by their names.

    Raises:
        InputError: it is not a graph of Keras layers, or lacks one of the classes.
    """
    import keras

    if model.network is None:
        raise InputError(
            f"{model.name} is not a graph of Keras layers that ends in logits or a softmax, which exporting needs: "
            "give a .keras or .h5 file of one"
        )
    columns = class_columns(model.class_names, class_names)
    if columns == list(range(model.classes)):
        return model.network
    logits = keras.ops.take(model.network.outputs[0], columns, axis=-1)
    return keras.Model(model.network.inputs[0], logits, name=model.network.name)


def with_class_order(model: ImageModel, order: ClassOrder) -> ImageModel:
    """Return `model` with the names of its classes.

    Raises:
        InputError: these are not as many as its outputs.
    """
    if model.classes != len(order.names):
        raise InputError(
            f"{model.name} gives {model.classes} logits, the classes are {len(order.names)} "
            f"({', '.join(order.names)}): name the teacher's own classes in order (--classes)"
        )
    return replace(model, class_names=order.names, class_order=order.source)
