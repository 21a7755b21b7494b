"""Trained networks that come with the package, by name.

Each lies in a folder of teachers/trained and is a run like any other, without what only its training needed: the
weights, as float16, and the record of how they came about. So whatever takes a run takes its name as well.
`python -m distill.runs.trained_networks RUN FOLDER` makes such a folder.
"""

import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import InputError
from distill.files.documents import read_json
from distill.files.whole_files import atomic_folder, write_json
from distill.runs.run_record import SETTINGS

if TYPE_CHECKING:
    import h5py

_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_OPTIMIZER = "optimizer"  # its group among the weights


def trained_networks() -> dict[str, Path]:
    """Return the folders of the trained networks that come with the package, by their names."""
    folder = Path(__file__).parents[2] / "teachers" / "trained"
    return {each.name: each for each in sorted(folder.glob("*")) if (each / SETTINGS).is_file()}


def trained_path(source: str) -> str:
    """Return the folder of the trained network of that name; anything else as it is."""
    return str(trained_networks().get(source, source))


def write_trained(run: Path, out: Path) -> None:
    """Copy what others need of a finished run into the folder `out`: its record, and its best weights as float16.

    The list of the images that it learned from goes with them. Of files and folders the record keeps the last name:
    where they lay on this machine is nobody else's concern. float16 keeps three digits of a weight; `evaluate`
    the copy to see what that costs.

    Raises:
        InputError: `run` is not a finished run; `out` is not empty.
    """
    from distill.runs.run_directory import BEST, SUMMARY
    from distill.runs.training_images import TRAINING_IMAGES

    missing = [name for name in (SETTINGS, SUMMARY, BEST) if not (run / name).is_file()]
    if missing:
        raise InputError(f"{run} is not a finished run, it has no {missing[0]}: give the folder of one")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty: name a new folder")
    with atomic_folder(out) as unfinished:
        write_json(unfinished / SETTINGS, _without_folders(read_json(run / SETTINGS, what="record of a run")))
        for name in (SUMMARY, TRAINING_IMAGES):
            if (run / name).is_file():
                shutil.copyfile(run / name, unfinished / name)
        _copy_as_float16(run / BEST, unfinished / BEST)


def _without_folders(value: Any) -> Any:
    """Return the same document with the last names of absolute paths in their place."""
    if isinstance(value, dict):
        return {name: _without_folders(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_folders(each) for each in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _copy_as_float16(source: Path, target: Path) -> None:
    """Copy a `.keras` file; Keras gives the weights their own type again as it reads them."""
    import h5py  # names of trained networks stand in the help of commands, which loads nothing

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(source) as old:
        whole, halved = Path(old.extract(_WEIGHTS, folder)), Path(folder) / "float16.h5"
        with h5py.File(whole) as weights, h5py.File(halved, "w") as half:
            _copy_group(weights, half, leave_out=_OPTIMIZER)
        config = json.loads(old.read(_CONFIG))
        config.pop("compile_config", None)  # of an optimizer, which runs of earlier versions kept here
        changed = {_WEIGHTS: halved.read_bytes(), _CONFIG: json.dumps(config).encode()}
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
            for member in old.infolist():
                content = changed[member.filename] if member.filename in changed else old.read(member)
                new.writestr(zipfile.ZipInfo(member.filename), content)  # the same bytes on any day


def _copy_group(source: "h5py.Group", target: "h5py.Group", *, leave_out: str | None = None) -> None:
    import h5py
    import numpy as np

    target.attrs.update(source.attrs)
    for name, item in source.items():
        if name == leave_out:
            continue
        if isinstance(item, h5py.Group):
            _copy_group(item, target.create_group(name))
        else:
            target[name] = item[()].astype(np.float16 if item.dtype == np.float32 else item.dtype)


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("expected two arguments: the folder of a finished run, and a new folder")
    write_trained(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
