"""`CropRecord`: which photos and videos `crop_faces` is done with, so that the same call goes on behind them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.files.busy_files import is_there
from distill.files.whole_files import atomic_file
from distill.prediction.found_photos import files_in


class CropRecord:
    """A file of JSON lines: the settings and the root, then a line for each finished source.

    Args:
        file: the record; new, or of an earlier call with the same settings.
        out: the folder of the faces that it is about.
        root: where the sources lie, by their relative paths.
        settings: which faces are cut out.

    Raises:
        InputError: `out` holds something else, or faces of other settings or of another `root`; or the record is
            damaged.
    """

    done: dict[str, dict[str, Any]]
    """The lines, by source: its `faces` and what was `left_out`, its `stamp`, and `again` where it was unreadable."""

    def __init__(self, file: Path, out: Path, root: Path, settings: Mapping[str, Any]):
        self._file, self._out, self._root = file, out, root
        everything = {"settings": dict(settings), "root": str(root.resolve())}
        self._header = json.loads(json.dumps(everything))
        self.done = self._read()

    def begin(self) -> None:
        """Write the settings, if they are not there yet."""
        if not self._file.exists():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self._file) as unfinished:
                unfinished.write_text(json.dumps(self._header) + "\n", encoding="utf-8")

    def add(self, line: dict[str, Any]) -> None:
        """Note that a source is finished."""
        self.begin()
        with open(self._file, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.done[line["source"]] = line

    def take_changed(self, sources: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the lines of finished sources whose file is not that of then, or could not be read then.

        They are not done any more. Earlier records do not say. A file that is gone, such as one on a disk that is not
        there now, keeps its faces.
        """
        known = [source for source in sources if "stamp" in self.done.get(source, {})]
        stamps = {source: stamp_of(self._root / source) for source in known}
        changed = [
            source
            for source, stamp in stamps.items()
            if stamp is not None and (self.done[source].get("again") or self.done[source]["stamp"] != stamp)
        ]
        return {source: self.done.pop(source) for source in changed}

    def _read(self) -> dict[str, dict[str, Any]]:
        """Return the finished sources of an earlier call; a line that was not written to its end does not count."""
        out = self._out
        if out.exists() and not out.is_dir():
            raise InputError(f"{out} is a file: name a folder for the faces")
        if not out.parent.is_dir() and is_there(out.parent):
            raise InputError(f"{out.parent} is a file: {out} would be a folder in it, name another one")
        if not self._file.is_file():
            if out.is_dir() and any(out.iterdir()):
                raise InputError(f"{out} is not empty, and {self._file} does not say what of: name a new folder")
            return {}
        text = self._file.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            with atomic_file(self._file) as unfinished:
                unfinished.write_text(whole, encoding="utf-8")
        try:
            header, *lines = map(json.loads, whole.splitlines())
            done = {line["source"]: {"faces": line["faces"], "left_out": line["left_out"], **line} for line in lines}
            stored = header["settings"]
            of_then = str(header.get("root", self._header["root"]))  # earlier records do not say
            faces = [row["face"] for line in done.values() for row in line["faces"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._file} is damaged ({error}): name a new folder for the faces") from error
        if faces and self._was_emptied():  # to start over
            self._file.unlink()
            return {}
        changed = {name: (stored.get(name), now) for name, now in self._header["settings"].items()}
        for name, (old, now) in changed.items():
            if old != now:
                raise InputError(
                    f"{out} holds faces of other settings ({name}: stored {old}, now {now}): name another folder"
                )
        if of_then != self._header["root"] and Path(of_then).exists():  # it may have been moved
            raise InputError(f"{out} holds the faces of {of_then}: name another folder for {self._root}")
        return done

    def _was_emptied(self) -> bool:
        """Whether somebody deleted all pictures; class folders, labels and a system's own files may be left."""
        if not self._out.is_dir():
            return True
        left = files_in(self._out)
        return not (left.pictures or left.unreadable)


def stamp_of(file: Path) -> list[int] | None:
    """Return the size of a file in bytes and when it was changed, ns; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
