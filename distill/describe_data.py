"""Say what a dataset holds, and draw some of it: `python -m distill.describe_data --data D`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distill.command_line.data_settings import DataSetting
from distill.command_line.stage import run_stage
from distill.data.dataset import Dataset
from distill.data.duplicates import Duplicates, class_counts, find_duplicates, present_splits
from distill.printable import counted


@dataclass(frozen=True, kw_only=True)
class DescribeDataSettings(DataSetting):
    """Count a dataset's classes, splits and duplicates, and draw sample images of every class."""

    out: str = "sample_images.png"
    """Picture to write; its suffix says the format."""


def describe_data(settings: DescribeDataSettings) -> None:
    """Print the report of `settings.data` and write the picture `settings.out`.

    Raises:
        InputError: the data cannot be read, or the picture's format is unknown.
    """
    from distill.data.open_dataset import open_dataset
    from distill.reports.sample_faces import check_picture_format, save_sample_faces

    check_picture_format(settings.out)
    dataset = open_dataset(settings.data, class_names=settings.data_classes)
    print("\n".join(report_lines(dataset, find_duplicates(dataset))))
    save_sample_faces(dataset, settings.out)
    print(f"sample images: {settings.out}")


def report_lines(dataset: Dataset, duplicates: Duplicates) -> list[str]:
    """Return the report on a dataset, as lines of text."""
    height, width, channels = dataset.image_shape
    return [
        f"data: {dataset.name}",
        *(f"note: {note}" for note in dataset.notes),
        f"images: {len(dataset)}, {height}x{width}, {'grey' if channels == 1 else 'RGB'}",
        "",
        *_count_table(dataset),
        "",
        *_duplicate_lines(duplicates),
        f"fingerprint: {dataset.fingerprint}",
    ]


def _count_table(dataset: Dataset) -> list[str]:
    splits, counts = present_splits(dataset), class_counts(dataset)
    columns = [_split_name(split) for split in splits]
    rows: list[tuple[Any, ...]] = [(name, *map(of_class.get, splits)) for name, of_class in counts.items()]
    rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    if len(splits) > 1:
        columns, rows = [*columns, "all"], [(*row, sum(row[1:])) for row in rows]
    width = max(len(name) for name in counts)
    return [
        f"{name:<{max(width, 5)}}" + "".join(f"  {cell:>10}" for cell in cells)
        for name, *cells in [("class", *columns), *rows]
    ]


def _duplicate_lines(duplicates: Duplicates) -> list[str]:
    lines = [
        f"exact duplicates: {counted(duplicates.groups, 'group')}, {counted(duplicates.images, 'image')}; "
        f"{counted(duplicates.conflicting, 'group')} with conflicting labels"
    ]
    if len(duplicates.within) > 1:
        lines += [
            f"  within {_split_name(split)}: {counted(groups, 'group')}, {counted(images, 'image')}"
            for split, (groups, images) in duplicates.within.items()
        ]
    lines += _copies_across(duplicates.across, "an exact copy")
    lines.append(f"mirrored copies: {counted(duplicates.mirrored, 'image')}, those with an exact copy not counted")
    return lines + _copies_across(duplicates.mirrored_across, "a mirrored copy")


def _copies_across(counts: Mapping[tuple[str, str], int], kind: str) -> list[str]:
    return [
        f"  {count} {_split_name(split)} images have {kind} in {_split_name(other)}"
        for (split, other), count in counts.items()
    ]


def _split_name(split: str) -> str:
    return split or "no split"


def main() -> None:
    run_stage(describe_data, DescribeDataSettings, backend=None, begins_anew=True)


if __name__ == "__main__":
    main()
