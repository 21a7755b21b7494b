"""`StudentSettings`: the flags by which commands are given a student, of this project or external."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distill.command_line.literals import PythonLiteral
from distill.files.documents import tuples_for_lists

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class StudentSettings:
    """How a student is built."""

    student_options: dict[str, PythonLiteral] = field(default_factory=dict)
    """The network's own arguments, such as "keep_prob 0.8 pixel_scale 0.0625"; values are Python literals. By default
    the network's own: MicroExpNet's pixel_scale of 1, as published, hardly learns; 0.0625 does."""
    image_size: int | None = None
    """Height and width that the network takes; the published ones by default."""
    policy: str = "float32"
    """"float32", or "mixed_bfloat16", which is faster on processors with bfloat16 units; weights and logits are
    float32 all the same."""

    def build_student(self, student: str, classes: int) -> "keras.Model":
        """Build a network with new weights.

        Args:
            student: a name in `STUDENTS`, or `MODULE:FUNCTION`: a function that returns a `keras.Model` that takes
                pixels 0..255 and gives raw logits. It is called with the options, with `classes` if it takes them,
                and with `input_shape=(size, size)` where an image size is given.
            classes: how many logits.

        Raises:
            InputError: there is no such network; it has no such option; it cannot be built so.
        """
        from distill.runs.networks import build_network

        options = {name: tuples_for_lists(value) for name, value in self.student_options.items()}
        return build_network(
            _table_of(student),
            student,
            classes=classes,
            image_size=self.image_size,
            options=options,
            policy=self.policy,
        )


def _table_of(student: str) -> Mapping[str, Any]:
    from distill.python_function import load_function, recognise
    from students import STUDENTS

    return {student: load_function(student)} if recognise(student) else STUDENTS
