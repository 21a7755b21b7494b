"""Write a dataset as shards: `python -m distill.convert_data SOURCE --out SHARDS --format webdataset`."""

from dataclasses import dataclass
from shlex import quote
from typing import Literal

import tyro

from distill.command_line.data_settings import DataClasses, print_notes
from distill.command_line.stage import print_next, run_stage
from distill.errors import InputError
from distill.files.home import expanded
from distill.refusals import check_at_least


@dataclass(frozen=True, kw_only=True)
class ConvertDataSettings(DataClasses):
    """Write a dataset of any layout as shards, files of many images each, which every command reads as --data.

    Encoded pictures keep their bytes, other images become PNG. Ids, labels, class names, splits and the order within
    each split are kept, so that logits of the source fit. OUT appears when it is whole; repeat the command to resume
    after an interruption.
    """

    source: tyro.conf.Positional[str]
    """A dataset, as --data of other commands takes it."""
    out: str
    """Folder for the shards, a new one: train-00000-of-00012.tar and the like, and classes.txt."""
    format: Literal["webdataset", "parquet", "tfrecord"] = "webdataset"
    """"webdataset": tar archives, the fastest to read in any order; "parquet": as the Hugging Face Hub has them;
    "tfrecord": records of tf.train.Example."""
    images_per_shard: int = 10_000
    """Images in a file, at most."""


def convert_data(settings: ConvertDataSettings) -> None:
    """Write the shards that `settings` describe, and print where they are.

    Raises:
        InputError: the source cannot be read, `settings.out` exists or was begun otherwise, or pyarrow is missing.
    """
    from distill.data.conversion import convert, not_kept
    from distill.data.open_dataset import open_dataset
    from distill.printable import printable

    check_at_least(1, images_per_shard=settings.images_per_shard)
    out = expanded(settings.out)
    if out.exists():
        raise InputError(f"{out} exists: name a new folder for the shards")
    dataset = open_dataset(settings.source, class_names=settings.data_classes)
    print_notes(dataset)
    for note in not_kept(dataset):
        print(f"note: {note}")
    shards = convert(dataset, out, format=settings.format, images_per_shard=settings.images_per_shard)
    print(printable(f"{len(dataset):,} images in {len(shards):,} shards in {out}"))
    print_next(f"distill.describe_data --data {quote(str(out))}")


def main() -> None:
    run_stage(convert_data, ConvertDataSettings, backend=None)


if __name__ == "__main__":
    main()
