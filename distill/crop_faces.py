"""Cut the faces out of photos and videos: `python -m distill.crop_faces PHOTOS --out FACES`."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import tyro

from distill.command_line.face_settings import FaceSettings
from distill.command_line.stage import print_next, run_stage
from distill.errors import InputError
from distill.files.home import expanded
from distill.prediction.cropping import CropSettings
from distill.printable import counted, is_utf8
from distill.refusals import check_at_least

if TYPE_CHECKING:
    from distill.prediction.cropping import FaceFolder

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class CropFacesSettings(FaceSettings, CropSettings):
    """Find the faces in photos and videos, and save each as a picture of its own, framed as distill.predict does.

    Class folders stay class folders, and a label file stays one. Next to OUT, OUT-report has a sheet of faces to
    look over (sheet.png), a table of them (faces.csv), and one of what was left out and why (left_out.csv). Repeat
    the command to resume after an interruption.
    """

    photos: tyro.conf.Positional[str]
    """A folder, with all folders in it; a label file of PATH LABEL lines; a photo or a video."""
    out: str
    """Folder for the faces."""
    threads: int = 1
    """How many photos are looked at at the same time."""


def crop_faces(settings: CropFacesSettings) -> None:
    """Cut out and save the faces that `settings` describe, and print what was left out.

    Raises:
        InputError: there is nothing to look at, or it cannot be read; `settings.out` holds something else.
    """
    from distill.prediction.cropping import FaceFolder
    from distill.prediction.face_finder import FaceFinder

    check_at_least(1, threads=settings.threads)
    out = Path(settings.out)
    out = out if out.name not in ("", "..") else out.resolve()  # its report is called like it
    root, labels = _sources(expanded(settings.photos), out)
    open_finder = partial(FaceFinder, settings.face_detector, min_face_score=settings.min_face_score)
    detector = {"face_detector": open_finder().name, "min_face_score": settings.min_face_score}
    crop = {name: value for name, value in asdict(settings).items() if name in CropSettings.__dataclass_fields__}
    folder = FaceFolder(out, root, list(labels), CropSettings(**crop), detector=detector)
    _crop_all(folder, list(labels), open_finder, threads=settings.threads)
    faces, left_out = folder.finish(list(labels))
    if not faces:
        if not left_out:
            raise InputError(
                f"all faces of {settings.photos} were deleted from {out} since: name another --out, or delete {out} "
                "to start over"
            )
        raise InputError(f"no face was found in {settings.photos}: {folder.report / 'left_out.csv'} says why")
    _write_labels(folder, faces, labels)
    folder.write_sheet(faces)
    _print_result(folder, faces, left_out)


def _sources(photos: Path, out: Path) -> tuple[Path, Mapping[str, str | None]]:
    """Return the folder to which sources are relative, and each of them with its label, if a label file has one.

    What lies in `out` and next to it, of an earlier call, is no source.
    """
    from distill.data.layouts import label_file
    from distill.prediction.cropping import report_of
    from distill.prediction.found_photos import files_in

    if not photos.exists():
        raise InputError(f"{photos} does not exist: give a folder of photos, a label file, a photo or a video")
    if label_file.recognise(photos):
        file = photos / label_file.NAME_IN_FOLDER if photos.is_dir() else photos
        return file.parent, label_file.read_lines(file)
    if photos.is_file():
        return photos.parent, {photos.name: None}
    photos_in = photos.resolve()
    written = [real for each in (out, report_of(out)) if not photos_in.is_relative_to(real := each.resolve())]
    names, others, unreadable = files_in(photos, without=written)
    if others:
        listed = [f"{count} {suffix}" for suffix, count in others.most_common(_SHOWN)]
        more = [f"and {len(others) - _SHOWN} more kinds"] if len(others) > _SHOWN else []
        print(f"note: left out, as neither photos nor videos: {', '.join([*listed, *more])}")
    if unreadable:
        print(
            f"note: left out, as they cannot be read: {counted(len(unreadable), 'folder')}, such as {unreadable[0]}"
        )
    if not names:
        raise InputError(f"{photos} holds no photos and no videos")
    return photos, dict.fromkeys(names)


def _crop_all(folder: "FaceFolder", sources: Sequence[str], open_finder, *, threads: int) -> None:
    from distill.prediction.in_order import in_order
    from distill.progress import progress_bar

    missing = [source for source in sources if not folder.is_done(source)]
    done = len(sources) - len(missing)
    folder.begin()
    with progress_bar(total=len(sources), initial=done, desc="finding faces", unit="file") as bar:
        for line in in_order(
            missing,
            lambda: partial(folder.crop, finder=open_finder()),
            threads=threads,
            interrupt=folder.interrupt,
        ):
            folder.record(line.result())
            bar.update()


def _write_labels(folder: "FaceFolder", faces: Sequence[Mapping[str, Any]], labels: Mapping[str, str | None]) -> None:
    """Write the label file of the faces, where the photos have one, and keep what the classes are called."""
    from distill.data.class_labels import CLASSES_FILE
    from distill.data.layouts.label_file import NAME_IN_FOLDER
    from distill.files.whole_files import write_bytes

    if any(label is not None for label in labels.values()):
        # A name that begins with # would be a comment.
        lines = [f"{'./' * face['face'].startswith('#')}{face['face']} {labels[face['source']]}\n" for face in faces]
        write_bytes(folder.out / NAME_IN_FOLDER, "".join(lines).encode(errors="surrogateescape"))
    classes = folder.root / CLASSES_FILE
    if classes.is_file():
        shutil.copyfile(classes, folder.out / CLASSES_FILE)


def _print_result(
    folder: "FaceFolder", faces: Sequence[Mapping[str, Any]], left_out: Sequence[Mapping[str, Any]]
) -> None:
    from distill.prediction.cropping import BLURRED, NO_FACE, TINY

    print(f"{counted(len(faces), 'face')} in {folder.out}; look them over: {folder.report / 'sheet.png'}")
    of_kind: dict[str, list[str]] = {}
    for why in [row["why"] for row in left_out]:
        kind = next((kind for kind in (NO_FACE, TINY, BLURRED) if why.startswith(kind)), "a file cannot be used")
        of_kind.setdefault(kind, []).append(why)
    for kind, whys in of_kind.items():
        example = "" if whys[0] == kind else f", such as: {whys[0].removeprefix(f'{kind}: ')}"
        print(f"left out because {kind}: {len(whys):,}{example}")
    if left_out:
        print(f"{folder.report / 'left_out.csv'} lists them")
    if orphans := folder.orphans:
        print(
            f"note: {folder.out} also holds {counted(len(orphans), 'picture')} of no face of these photos, such as "
            f"{orphans[0]}: of other photos, of some that are gone, or of a call that was killed"
        )
    if other := [face["face"] for face in faces if not is_utf8(face["face"])]:
        print(
            f"note: {counted(len(other), 'face')} with a name that is not UTF-8, such as {other[0]}: datasets refuse "
            "it, rename the photo"
        )
    print_next(f"distill.describe_data --data {quote(str(folder.out))}")


def main() -> None:
    run_stage(crop_faces, CropFacesSettings, backend=None)


if __name__ == "__main__":
    main()
