"""What an HDF5 file may consist of, checked before anything is read: groups, and datasets that it holds itself.

HDF5 follows links and raw storage into other files, and waits for ever where one of them is a pipe. It makes up
values that were never written, and unpacks a few bytes to any number of them.
"""

from collections.abc import Iterator

import h5py

_UNPACKING = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)


def plain_dataset(group: h5py.Group, name: str, *, packed: bool = False) -> h5py.Dataset:
    """Return the dataset called `name`, which lies in this file as it is.

    Args:
        packed: it may be compressed, as `gzip` does it.

    Raises:
        KeyError: there is nothing of that name.
        ValueError: it is something else, or lies elsewhere.
    """
    kind = type(group.get(name, getlink=True))
    if kind is not h5py.HardLink:
        raise ValueError(f"{name} is a link to elsewhere ({kind.__name__}), expected a dataset")
    kind = group.get(name, getclass=True)
    if kind is not h5py.Dataset:
        raise ValueError(f"{name} is a {kind.__name__}, expected a dataset")
    dataset = group[name]
    _check_storage(dataset, packed=packed)
    return dataset


def plain_datasets(file: h5py.File, *, packed: bool = False) -> Iterator[h5py.Dataset]:
    """Yield all datasets of a file that has nothing but these, in groups.

    Raises:
        ValueError: it has anything else, or one of them lies elsewhere.
    """
    waiting, seen = [file["/"]], set()
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # a hard link to a group above
            continue
        seen.add(address)
        for name in group:
            if (
                group.get(name, getlink=True).__class__ is h5py.HardLink
                and group.get(name, getclass=True) is h5py.Group
            ):
                waiting.append(group[name])
            else:
                yield plain_dataset(group, name, packed=packed)


def _check_storage(dataset: h5py.Dataset, *, packed: bool) -> None:
    name, settings = dataset.name.lstrip("/"), dataset.id.get_create_plist()
    if settings.get_layout() == h5py.h5d.VIRTUAL or settings.get_external_count():
        raise ValueError(f"{name} lies in another file")
    filters = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
    if not set(filters) <= set(_UNPACKING if packed else ()):
        raise ValueError(f"{name} goes through a filter, expected values as they are")
    # HDF5 makes up what no block was written of, however much that is.
    if not filters and dataset.dtype.kind != "O" and dataset.id.get_storage_size() < dataset.nbytes:
        raise ValueError(f"{name} is there in part")
