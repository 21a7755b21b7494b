"""Every kind of file that is read is refused in one line, or read, whatever stands in it.

`--hostile-inputs 1000` tries so many of each kind; docs/reliability.md has the figures.
"""

import pytest

from distill.errors import InputError
from distill.files import hdf5_probe
from distill.printable import one_line
from tests.hostile_inputs import READERS, deadline, hostile_files


@pytest.mark.parametrize("kind", READERS)
def test_a_hostile_file_is_refused_in_one_line_or_read(tmp_path, kind, request, monkeypatch):
    monkeypatch.setattr(hdf5_probe, "SECONDS", 10.0)
    reader, count = READERS[kind], request.config.getoption("--hostile-inputs")
    file = reader.prepare(tmp_path)
    good = reader.read(file)
    faults, refused = [], 0
    for number, done in enumerate(hostile_files(file, seed=0, count=count)):
        try:
            with deadline():
                found = reader.read(file)
            if reader.exact and found != good:
                faults.append(f"{number}, {done}: read as something else")
        except InputError as error:
            refused += 1
            if not one_line(str(error)).isprintable():
                faults.append(f"{number}, {done}: not one line")
        except OSError as error:
            refused += 1
            if isinstance(error, TimeoutError) or error.errno is None:
                faults.append(f"{number}, {done}: {error!r}")
        except Exception as error:  # noqa: BLE001 - what nobody foresaw is what is looked for
            faults.append(f"{number}, {done}: {error!r:.200}")
    assert not faults, "\n".join(faults[:20])
    assert refused, "not one was refused"
