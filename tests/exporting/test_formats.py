"""Every format, and every network: the file gives what the network gives, and describes itself."""

import contextlib
import dataclasses
import hashlib
import json
import zipfile

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.table import Table

from distill.errors import InputError
from distill.exporting.formats import FORMATS
from distill.exporting.graph import probabilities_network
from distill.exporting.litert import INT8, PRECISIONS, litert_flatbuffer
from distill.exporting.litert_metadata import described_file
from distill.exporting.onnx_export import onnx_model
from distill.prediction.description import ModelDescription
from distill.prediction.exported_model import open_exported
from distill.prediction.litert_file import LiteRTFile, read
from students import STUDENTS
from teachers import TEACHERS

NAMES = ("böse", "disgust", "fear", "happy", "sad", "surprise", "neutral")
# 8-bit activations of a few layers; the others differ by rounding alone.
TOLERANCES = {"float32": 1e-5, "float16": 5e-3, "int8": 0.12}
SIZES = {"facenet": 35, "resnet": 16, "dexpression": 64}  # small ones, where 48 would take minutes


def description(precision="float32", shape=(32, 32, 1)) -> ModelDescription:
    return ModelDescription(
        name="small",
        class_names=NAMES,
        input_shape=shape,
        precision=precision,
        weights_sha256="0" * 64,
        trained_on="faces",
        version="1",
    )


@pytest.fixture(scope="session")
def pixels(faces) -> np.ndarray:
    images = faces.read(np.arange(64)).astype(np.float32)
    return keras.ops.convert_to_numpy(keras.ops.image.resize(images, (32, 32)))


@pytest.fixture(scope="session")
def written(student, pixels, tmp_path_factory) -> dict:
    """Format -> the path of its file."""
    folder, network = tmp_path_factory.mktemp("formats"), probabilities_network(student)
    paths = {name: folder / f"small{form.ending}" for name, form in FORMATS.items()}
    for name, form in FORMATS.items():
        form.write(paths[name], network, description(form.precision), pixels[:32])
    return paths


def test_a_saved_model_in_a_folder_that_tensorflow_takes_for_a_pattern_is_refused(tmp_path):
    with pytest.raises(InputError, match="has brackets, which TensorFlow takes for a pattern of names"):
        FORMATS["saved-model"].open(tmp_path / "small[1]-saved-model")


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_gives_the_students_probabilities(name, written, student, pixels):
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(student(pixels, training=False)))
    given = FORMATS[name].open(written[name])(pixels)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(given, expected, atol=TOLERANCES[FORMATS[name].precision])
    assert np.abs(expected - expected[0]).max() > 0.05  # the student distinguishes the faces


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "saved-model"])
def test_a_file_says_what_it_is(name, written):
    assert open_exported(written[name]).description == description(FORMATS[name].precision)


def test_a_saved_model_says_what_it_is(written):
    text = (written["saved-model"] / "assets.extra" / "description.json").read_text(encoding="utf-8")
    assert json.loads(text)["class_names"] == list(NAMES)


@pytest.mark.parametrize("name", ["litert-float32", "litert-int8"])
def test_the_same_student_gives_the_same_bytes(name, written, student, pixels, tmp_path):
    form = FORMATS[name]
    form.write(tmp_path / "again", probabilities_network(student), description(form.precision), pixels[:32])
    assert (tmp_path / "again").read_bytes() == written[name].read_bytes()


def test_eight_bits_take_a_quarter_of_the_bytes(written):
    sizes = {name: written[f"litert-{name}"].stat().st_size for name in PRECISIONS}
    assert sizes["float16"] < 0.6 * sizes["float32"]
    assert sizes["int8"] < 0.4 * sizes["float32"]  # scales and shapes do not shrink


def test_arrays_that_are_written_once_change_no_number(rng):
    network = probabilities_network(STUDENTS["slim_mobilenet"](input_shape=(24, 24, 1)))
    pixels = rng.uniform(0, 255, (8, 24, 24, 1)).astype(np.float32)
    converted = litert_flatbuffer(network, INT8, calibration=pixels)
    shared = described_file(converted, description(INT8, shape=(24, 24, 1)))
    assert len(shared) < 0.85 * len(converted)
    np.testing.assert_array_equal(LiteRTFile(shared)(pixels), LiteRTFile(converted)(pixels))


def test_the_softmax_of_eight_bits_can_be_below_one_in_256(written, pixels):
    given = open_exported(written["litert-int8"]).run(pixels)
    assert np.any((given > 0) & (given < 1 / 512))


def test_an_onnx_file_with_its_property_is_valid(written):
    import onnx

    model = onnx.load(written["onnx"])
    onnx.checker.check_model(model, full_check=True)
    assert [entry.key for entry in model.metadata_props] == ["distill_faces"]


def test_the_network_that_is_converted_has_a_name_that_tensorflow_takes():
    inputs = keras.Input((8, 8, 1))
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)), name="a b")
    assert probabilities_network(network).name == "a_b"


@pytest.mark.parametrize("name", ["litert-float32", "litert-int8", "onnx", "saved-model"])
def test_an_activation_with_a_gradient_of_its_own_is_exported(name, tmp_path, pixels):
    inputs = keras.Input((32, 32, 1))
    x = keras.layers.Conv2D(8, 3, strides=4, activation="silu")(keras.layers.Rescaling(1 / 255)(inputs))
    network = keras.Model(inputs, keras.layers.Dense(7)(keras.layers.GlobalAveragePooling2D()(x)), name="silu")
    form = FORMATS[name]
    path = tmp_path / f"silu{form.ending}"
    form.write(path, probabilities_network(network), description(form.precision), pixels)
    expected = keras.ops.softmax(network(pixels)).numpy()
    np.testing.assert_allclose(form.open(path)(pixels), expected, atol=TOLERANCES[form.precision])


@pytest.mark.parametrize(
    ("layer", "operation"),
    [
        (keras.layers.Activation("gelu"), "Erfc"),
        (keras.layers.Conv2D(4, 3, groups=2), "StatefulPartitionedCall"),
    ],
)
def test_an_operation_that_onnx_cannot_express_is_named(layer, operation):
    inputs = keras.Input((12, 12, 1))
    x = layer(keras.layers.Conv2D(4, 3)(inputs))
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)), name="odd")
    with pytest.raises(InputError, match=f"^odd cannot be converted to ONNX.* {operation} ") as refused:
        onnx_model(probabilities_network(network))
    assert str(refused.value).isprintable()


def test_labels_and_description_can_be_unzipped(written):
    with zipfile.ZipFile(written["litert-float32"]) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(NAMES)
        described = json.loads(archive.read("description.json"))
        start = min(entry.header_offset for entry in archive.infolist())
    content = written["litert-float32"].read_bytes()
    assert described["sha256"] == hashlib.sha256(content[:start]).hexdigest()
    assert described["pixels"].startswith("float32 [1, height, width, channels], 0..255")


def test_litert_metadata_stands_where_its_schema_puts_it(written):
    """The numbers are places in metadata_schema.fbs 1.1, typed from there."""
    model = schema.Model.GetRootAs(read(written["litert-float32"])[0], 0)
    entries = {model.Metadata(i).Name(): model.Metadata(i).Buffer() for i in range(model.MetadataLength())}
    content = model.Buffers(entries[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()
    assert content[4:8] == b"M001"
    root = Table(content, flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0))
    assert text(root, 0) == "small"
    graph = first(root, 3)
    pixels, probabilities = first(graph, 2), first(graph, 3)
    assert (text(pixels, 0), text(probabilities, 0)) == ("pixels", "probabilities")
    image = child(child(pixels, 3), 1)
    assert number(child(pixels, 3), 0, "Uint8") == 2  # ImageProperties
    assert number(image, 0, "Int8") == 2  # GRAYSCALE
    assert [number(child(image, 1), place, "Uint32") for place in (0, 1)] == [32, 32]  # width, height
    scaling = child(first(pixels, 4), 1)
    assert [floats(scaling, place) for place in (0, 1)] == [[0], [1]]  # mean, std
    assert [floats(child(pixels, 5), place) for place in (0, 1)] == [[255], [0]]  # max, min
    labels = first(probabilities, 6)
    assert (text(labels, 0), number(labels, 2, "Int8")) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS


@pytest.mark.parametrize("name", [*STUDENTS, *TEACHERS])
def test_every_network_can_be_exported(name, rng):
    side = SIZES.get(name, 48)
    channels = 3 if name == "dexpression" else 1
    network = {**STUDENTS, **TEACHERS}[name](classes=7, input_shape=(side, side, channels))
    probabilities = probabilities_network(network)
    runs = LiteRTFile(litert_flatbuffer(probabilities, "float32"))
    assert runs.input_shape == (side, side, channels)
    pixels = rng.uniform(0, 8, (2, side, side, channels)).astype(np.float32)  # dim: random weights saturate soon
    expected = probabilities(pixels, training=False)
    np.testing.assert_allclose(runs(pixels), keras.ops.convert_to_numpy(expected), atol=1e-5)


def test_a_student_in_half_precision_is_exported_in_float32(pixels):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        student = STUDENTS["slim_resnet"](input_shape=(32, 32))
    finally:
        keras.config.set_dtype_policy("float32")
    network = probabilities_network(student)
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    assert LiteRTFile(litert_flatbuffer(network, "float32"))(pixels[:2]).shape == (2, 7)


def test_a_network_of_any_size_is_refused():
    with pytest.raises(InputError, match="takes images of any size: build it at a fixed size"):
        probabilities_network(STUDENTS["slim_resnet"](input_shape=(None, None, 1)))


def test_probabilities_are_not_taken_for_logits(student):
    with pytest.raises(InputError, match="ends in softmax"):
        probabilities_network(STUDENTS["microexpnet"](classifier_activation="softmax"))


def test_int8_needs_images(student):
    with pytest.raises(ValueError, match="int8 needs calibration images"):
        litert_flatbuffer(probabilities_network(student), INT8)


def test_colour_students_say_so(rng):
    student = STUDENTS["microexpnet"](input_shape=(32, 32, 3), classes=7)
    flatbuffer = litert_flatbuffer(probabilities_network(student), "float32")
    content = described_file(flatbuffer, description(shape=(32, 32, 3)))
    model = schema.Model.GetRootAs(content, 0)
    buffer = next(
        model.Metadata(i).Buffer()
        for i in range(model.MetadataLength())
        if model.Metadata(i).Name() == b"TFLITE_METADATA"
    )
    metadata = model.Buffers(buffer).DataAsNumpy().tobytes()
    root = Table(metadata, flatbuffers.encode.Get(flatbuffers.packer.uoffset, metadata, 0))
    image = child(child(first(first(root, 3), 2), 3), 1)
    assert number(image, 0, "Int8") == 1  # RGB


def _offset(table: Table, place: int) -> int:
    return table.Offset(4 + 2 * place)


def child(table: Table, place: int) -> Table:
    return Table(table.Bytes, table.Indirect(_offset(table, place) + table.Pos))


def first(table: Table, place: int) -> Table:
    return Table(table.Bytes, table.Indirect(table.Vector(_offset(table, place))))


def text(table: Table, place: int) -> str:
    return table.String(_offset(table, place) + table.Pos).decode()


def number(table: Table, place: int, kind: str) -> int:
    return table.Get(getattr(flatbuffers.number_types, f"{kind}Flags"), _offset(table, place) + table.Pos)


def floats(table: Table, place: int) -> list[float]:
    return table.GetVectorAsNumpy(flatbuffers.number_types.Float32Flags, _offset(table, place)).tolist()


def test_a_file_whose_description_is_of_another_network_is_refused(student, tmp_path):
    flatbuffer = litert_flatbuffer(probabilities_network(student), "float32")
    (tmp_path / "size.tflite").write_bytes(described_file(flatbuffer, description(shape=(48, 48, 1))))
    with pytest.raises(InputError, match="does not take the images that it says"):
        open_exported(tmp_path / "size.tflite")
    fewer = dataclasses.replace(description(), class_names=NAMES[:2])
    (tmp_path / "classes.tflite").write_bytes(described_file(flatbuffer, fewer))
    with pytest.raises(InputError, match=r"gives \[1, 7\] for an image, and names 2 classes"):
        open_exported(tmp_path / "classes.tflite")


def test_no_changed_byte_of_the_archive_ends_in_a_traceback(written, tmp_path):
    content = bytearray(written["litert-float32"].read_bytes())
    start = len(read(written["litert-float32"])[0])
    for position in range(start, len(content), 7):
        changed = content.copy()
        changed[position] ^= 0x55
        (tmp_path / "changed.tflite").write_bytes(changed)
        with contextlib.suppress(InputError):  # some bytes, such as dates, mean nothing
            open_exported(tmp_path / "changed.tflite")
