"""Bring in published logits: `python -m distill.import_logits --pickle P.pickle --out L.h5`."""

from dataclasses import dataclass

from distill.stage import run_stage


@dataclass(frozen=True, kw_only=True)
class ImportLogitsSettings:
    """Turn a pickled dictionary of path -> logits, such as MicroExpNet's teacher logits, into a logit store.

    The file is read as plain values only: nothing in it is ever called.
    """

    pickle: str
    """The pickle, up to 30 MB."""
    out: str
    """The logit store to write, an .h5 file."""
    classes: str = "microexpnet"
    """Whose order the logits are in: "microexpnet", "ferplus", "fer2013" or "ckplus"."""
    teacher_name: str | None = None
    """Who gave the logits; by default the name of the pickle."""
    teacher_input_shape: tuple[int, int, int] = (224, 224, 3)
    """Height, width and channels of what the teacher saw."""


def import_logits(settings: ImportLogitsSettings) -> None:
    """Write the store that `settings` describe, and say what it holds."""
    from distill.logit_store.pickled_logits import import_pickled_logits

    store = import_pickled_logits(
        settings.pickle,
        settings.out,
        classes=settings.classes,
        teacher_name=settings.teacher_name,
        teacher_input_shape=settings.teacher_input_shape,
    )
    classes = store.class_names
    print(f"{settings.out}: {len(store):,} images x 1 view x {len(classes)} classes of {store.header.teacher_name}")
    print(f"classes: {', '.join(classes)}")
    print("note: the pixels behind these logits are unknown: they are joined by file name, unchecked")


def main() -> None:
    run_stage(import_logits, ImportLogitsSettings, backend=None)


if __name__ == "__main__":
    main()
