"""What is kept in memory for an image in a shard."""

from collections.abc import Sized

import numpy as np
import pytest

from distill.data.conversion import FORMATS, convert
from distill.data.dataset import Dataset
from distill.data.open_dataset import open_dataset

COUNT = 250


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_needs_20_bytes_beyond_its_id_and_split_and_no_object_of_its_own(tmp_path, format):
    pytest.importorskip("pyarrow")
    images = np.zeros((COUNT, 2, 2, 1), np.uint8)
    convert(Dataset.from_arrays(images, np.arange(COUNT) % 2), tmp_path / "shards", format=format)
    dataset = open_dataset(tmp_path / "shards")
    index = getattr(dataset.images, "index", None)
    kept = {**vars(dataset.images), **(index._asdict() if index else {}), "labels": dataset.labels}
    columns = [value for value in kept.values() if isinstance(value, Sized) and len(value) >= COUNT]
    assert all(isinstance(column, np.ndarray) for column in columns)
    assert sum(column.nbytes for column in columns if column is not dataset.ids) <= 20 * COUNT
