"""Find faces and name their expressions: `python -m distill.predict photo.jpg`."""

import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from distill.command_line.ending_signals import INTERRUPTED
from distill.command_line.face_settings import FaceSettings
from distill.command_line.stage import run_stage
from distill.errors import InputError
from distill.files.home import expanded
from distill.printable import json_line, printable
from distill.refusals import check_known

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np

    from distill.prediction.captures import Source
    from distill.prediction.predictor import Face, Predictor

    Look = tuple[np.ndarray, list[Face]]
    """A photo, uint8 RGB [H, W, 3], and its faces."""


_JSON_VERSION = 1
"""Of the shape of what --json prints; what is added needs no other, what goes or changes does."""
_SLOWEST = 0.1  # frames per second of a video that is written; OpenCV writes none that are much slower
_BOXES: "dict[str, Callable[[Face], Sequence[int]]]" = {"ltrb": lambda face: face.box, "xywh": lambda face: face.xywh}


@dataclass(frozen=True)
class PredictSettings(FaceSettings):
    """Find the faces in photos, videos, or the picture of a camera or stream, and print the expression of each."""

    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Photos, videos (.mp4, .mov, .avi, .mkv, .webm, .wmv, .mpg, .3gp and the like), addresses of streams (rtsp://,
    http://), or folders: of these all images, with --recursive also those in folders within; what is left out is
    counted. What cannot be read is named, and the rest goes on; the exit code is then 2."""
    model: str | None = None
    """Exported student, folder of its card, or name of a student that comes with this package
    (fer2013_slim_mobilenet has a tenth of the bytes of the default, fer2013_microexpnet is MicroExpNet of 2019)."""
    flip_average: bool = False
    """Predict from the mean of the logits of each face and of its mirror image: small students are right more often
    so, and take twice as long."""
    recursive: bool = False
    """Take the images in folders within a folder, too."""
    json: bool = False
    """Print one JSON object per photo or frame and line, with the probabilities of all classes; docs/commands.md
    describes its fields."""
    boxes: str = "ltrb"
    """How boxes are printed, in pixels: "ltrb" is left, top, right, bottom; "xywh" is left, top, width, height, as
    OpenCV and the package fer have them."""
    save: str | None = None
    """Folder for copies with boxes and labels drawn in; it is created. No file that was given is
    overwritten, but pictures of an earlier call are, and whatever else has their names."""
    camera: int | None = None
    """Number of a camera to watch in place of files, 0 for the first, until Ctrl-C."""
    every: float = 0.0
    """Seconds between the frames of a video, camera or stream that are looked at; 0 takes every frame."""
    reconnect: float = 30.0
    """Seconds within which a stream that broke off must be back; 0 ends where it breaks off."""
    threads: int = 1
    """How many photos are looked at at the same time, or among how many threads the faces of a single one, or of
    a video, are divided."""


def predict(settings: PredictSettings) -> None:
    """Print the faces in what `settings` names.

    Raises:
        InputError: nothing was given; the model or detector cannot be used; a file could not be read, which is raised
            after all others were.
    """
    from distill.prediction.predictor import Predictor

    _check(settings)
    sources = [settings.camera] if settings.camera is not None else _sources(settings)
    open_predictor = partial(
        Predictor,
        settings.model,
        face_detector=settings.face_detector,
        min_face_score=settings.min_face_score,
        flip_average=settings.flip_average,
    )
    predictor = open_predictor(threads=settings.threads)
    _say_what_is_left_out(settings, sources)
    folder = None if settings.save is None else Path(settings.save)
    if folder is not None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file: name a folder for the copies")
        _say_what_cannot_be_written(predictor)
    try:
        with closing(_looks_ahead(sources, open_predictor, settings.threads)) as looks:
            bad = _show_all(sources, _targets(sources, folder), looks, predictor, settings)
    except KeyboardInterrupt:
        if len(sources) == 1 and not isinstance(sources[0], Path):  # a camera or stream has no other end
            return
        print("interrupted: what was printed and saved is whole, the rest was not looked at", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if bad:
        raise InputError(f"{bad} of {len(sources)} files could not be read")


def _say_what_is_left_out(settings: PredictSettings, sources: "Sequence[Source]") -> None:
    from distill.data.image_files import left_out
    from distill.prediction.captures import is_stream
    from distill.prediction.photos import folders_in

    seen = {*sources}
    for path in (expanded(name) for name in settings.files if not is_stream(name)):
        within = folders_in(path) if settings.recursive else ()
        for note in left_out([path, *within]) if path not in seen and path.is_dir() else ():  # it has images
            print(printable(f"note: {path}: {note}"), file=sys.stderr)


def _say_what_cannot_be_written(predictor: "Predictor") -> None:
    from distill.prediction.drawing import cannot_be_written

    if names := cannot_be_written(predictor.class_names):
        print(
            f"note: no font here has the letters of {', '.join(names)}: numbers of classes are drawn instead; "
            "install one such as Noto Sans CJK",
            file=sys.stderr,
        )


def _sources(settings: PredictSettings) -> "list[Source]":
    """Return what is meant: of a folder its images, and the address of a stream as it is."""
    from distill.prediction.captures import is_stream
    from distill.prediction.photos import expand

    sources: list[Source] = []
    for name in settings.files:
        sources += [name] if is_stream(name) else expand([name], recursive=settings.recursive)
    return sources


def _is_photo(source: "Source") -> bool:
    from distill.prediction.videos import is_video_name

    return isinstance(source, Path) and not is_video_name(source.name)


def _looks_ahead(
    sources: "Sequence[Source]", open_predictor: "Callable[[], Predictor]", threads: int
) -> "Generator[Future[Look], None, None]":
    """Yield what becomes the look at each photo, of which several are looked at at once; none without threads."""
    from distill.prediction.in_order import in_order

    photos = [source for source in sources if _is_photo(source)]
    if threads > 1 and len(photos) > 1:
        yield from in_order(photos, lambda: partial(_look, predictor=open_predictor()), threads=threads)


def _look(source: Path, predictor: "Predictor") -> "Look":
    from distill.prediction.photos import open_photo

    photo = open_photo(source)
    return photo, predictor(photo)


def _show_all(
    sources: "Sequence[Source]",
    targets: Iterable[Path | None],
    looks: "Iterator[Future[Look]]",
    predictor: "Predictor",
    settings: PredictSettings,
) -> int:
    """Show one source after the other; return how many could not be read, each of which was named.

    Raises:
        InputError: the only source could not be read.
    """
    from tqdm import tqdm

    bad, alone = 0, len(sources) == 1
    with tqdm(total=len(sources), unit="file", leave=False, disable=True if alone else None) as bar:
        for source, target in zip(sources, targets, strict=True):
            try:
                if isinstance(source, Path) and _is_photo(source):
                    _show_photo(source, next(looks, None), predictor, settings, target, alone=alone)
                elif not _show_video(source, predictor, settings, target):
                    _say_no_face(source, "try another video", show_hint=alone)
            except InputError as error:
                if alone:
                    raise
                bad += 1
                _note(f"error: {error}")
            bar.update()
    return bad


def _check(settings: PredictSettings) -> None:
    check_known(settings.boxes, _BOXES, what="order of boxes")
    if settings.camera is None and not settings.files:
        raise InputError("nothing to look at: give photos, videos or folders, or --camera 0")
    if settings.camera is not None and settings.files:
        raise InputError("--camera stands in place of files: give one of them")
    if (settings.camera or 0) < 0:
        raise InputError(f"--camera counts from 0, received {settings.camera}")
    for name in ("every", "reconnect"):
        if not 0 <= getattr(settings, name) < float("inf"):
            raise InputError(f"--{name} must be 0 or more seconds, received {getattr(settings, name)}")


def _show_photo(
    source: Path,
    look: "Future[Look] | None",
    predictor: "Predictor",
    settings: PredictSettings,
    target: Path | None,
    *,
    alone: bool,
) -> None:
    """Print, and draw into `target`, what a photo shows; `look` is at it already, where it was looked at ahead."""
    from distill.data.pictures import read_header
    from distill.prediction.face_finder import looks_cut_out

    photo, faces = _look(source, predictor) if look is None else look.result()
    if read_header(source).several:
        _note(f"note: {source} is animated or has several pages: the first is looked at")
    _print(str(source), None, faces, settings)
    if target is not None and faces:
        from distill.prediction.drawing import annotated, save_picture

        save_picture(annotated(photo, faces), target)
    if not faces:
        _say_no_face(source, predictor.faces.hint(photo.shape), show_hint=alone or looks_cut_out(photo.shape))


def _show_video(source: "Source", predictor: "Predictor", settings: PredictSettings, target: Path | None) -> int:
    """Print, and draw into `target`, what moving pictures show; return how many faces that were.

    Where they break off, or the user interrupts, the video at `target` ends there.
    """
    from distill.prediction.drawing import annotated
    from distill.prediction.videos import Frames, video_written

    frames = Frames(source, every=settings.every, reconnect=settings.reconnect)
    count, video, ended_by = 0, None, None
    with ExitStack() as stack:
        try:
            for time, frame in frames:
                faces = predictor(frame)
                _print(frames.name, time, faces, settings)
                count += len(faces)
                if target is not None:
                    video = video or stack.enter_context(video_written(target, rate=max(frames.rate, _SLOWEST)))
                    video.write(annotated(frame, faces))
        except (KeyboardInterrupt, InputError) as error:
            ended_by = error
    if ended_by is not None:
        raise ended_by
    return count


def _print(source: str, time: float | None, faces: list["Face"], settings: PredictSettings) -> None:
    at = {} if time is None else {"time": round(time, 3)}
    box_of = _BOXES[settings.boxes]
    if settings.json:
        found = [{**face.to_dict(), "box": box_of(face)} for face in faces]
        lines = [json_line({"version": _JSON_VERSION, "file": source, **at, "faces": found})]
    else:
        where = source if time is None else f"{source} at {time:.2f} s"
        lines = [
            printable(f"{where}: {face.expression} {face.probability:.2f} in box {' '.join(map(str, box_of(face)))}")
            for face in faces
        ]
    from tqdm import tqdm

    for line in lines:
        tqdm.write(line)
    sys.stdout.flush()


def _note(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(printable(line), file=sys.stderr)


def _say_no_face(source: "Source", hint: str, *, show_hint: bool) -> None:
    """Say that no face was found, which is not a mistake, and perhaps what to try."""
    from distill.prediction.captures import name_of

    said = f"no face was found in {name_of(source)}"
    _note(f"{said}; {hint}" if show_hint else said)


def _targets(sources: "Sequence[Source]", folder: Path | None) -> Iterator[Path | None]:
    """Yield for each source its name in `folder`, numbered where a source or another one's picture has that name."""
    if folder is None:
        yield from [None] * len(sources)
        return
    from distill.prediction.drawing import PICTURE_SUFFIXES
    from distill.prediction.videos import is_video_name

    taken = {_same(source) for source in sources if isinstance(source, Path)}
    for source in sources:
        path = source if isinstance(source, Path) else Path(f"{_file_name(source)}.mp4")
        suffix = path.suffix.lower()
        suffix = ".mp4" if is_video_name(path.name) else suffix if suffix in PICTURE_SUFFIXES else ".png"
        target, number = folder / f"{path.stem}{suffix}", 1
        while _same(target) in taken:
            number += 1
            target = folder / f"{path.stem}-{number}{suffix}"
        taken.add(_same(target))
        yield target


def _file_name(source: int | str) -> str:
    """Return how the video of a camera or stream is called, that of an address by its host and last name."""
    from distill.prediction.captures import name_of

    if isinstance(source, int):
        return f"camera-{source}"
    address = re.split("[?#]", name_of(source).partition("://")[2])[0]
    host, _, path = address.partition("/")
    host = re.sub(r":\d*$", "", host).strip("[]").lower()  # without its port; an address of IPv6 stands in brackets
    return "-".join(part for part in (host, Path(path).stem) if part)


def _same(path: Path) -> str:
    """What two paths of one file have in common, on systems that ignore case too."""
    return str(path.resolve()).casefold()


def main() -> None:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be of no encoding
    run_stage(predict, PredictSettings, backend=None, begins_anew=True)


if __name__ == "__main__":
    main()
