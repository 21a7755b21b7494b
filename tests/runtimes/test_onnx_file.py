"""ONNX files run in onnxruntime on the CPU; one that reaches for other files does not run at all."""

import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from distill.runtimes import onnx_file
from distill.runtimes.image_model import BEFORE_SOFTMAX
from distill.runtimes.input_format import InputFormat
from distill.runtimes.open_model import open_model
from tests.runtimes.conftest import refusal
from tests.runtimes.writers import write_onnx


@pytest.fixture
def changed(plain, tmp_path):
    """A function that writes the network after a change of its graph."""

    def write(change, **options) -> str:
        source = write_onnx(plain, tmp_path, **options)
        model = onnx.load(source)
        change(model)
        onnx.save(model, source)
        return source

    return write


@pytest.mark.parametrize("ending", ["", "softmax"])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_gives_the_same(plain, pixels, tmp_path, batch, ending):
    model = open_model(write_onnx(plain, tmp_path, batch=batch, ending=ending))
    np.testing.assert_allclose(model.predict(pixels), plain.predict_on_batch(pixels), rtol=1e-5, atol=1e-5)


def test_a_softmax_behind_an_identity_and_of_an_old_operator_set(plain, pixels, changed):
    def change(model):
        model.graph.node[-1].op_type = "LogSoftmax"
        model.graph.node[-1].attribute.append(helper.make_attribute("axis", 1))
        model.graph.node.append(helper.make_node("Identity", ["ended"], ["last"]))
        model.graph.output[0].name = "last"

    model = open_model(changed(change, ending="softmax"))
    assert model.logits_from == BEFORE_SOFTMAX
    np.testing.assert_allclose(model.predict(pixels), plain.predict_on_batch(pixels), rtol=1e-5, atol=1e-5)


def test_weights_that_are_listed_as_inputs_are_none(plain, pixels, changed):
    def change(model):
        model.ir_version = 3
        for each in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(each.name, TensorProto.FLOAT, each.dims))

    np.testing.assert_allclose(
        open_model(changed(change)).predict(pixels), plain.predict_on_batch(pixels), rtol=1e-5, atol=1e-5
    )


def retyped(model, kind):
    """Let a network take and give numbers of another kind, and compute in floats as before."""
    pixels, last = model.graph.input[0], model.graph.output[0]
    first = model.graph.node[0]
    model.graph.node.insert(0, helper.make_node("Cast", ["pixels"], ["as_floats"], to=TensorProto.FLOAT))
    first.input[0] = "as_floats"
    pixels.type.tensor_type.elem_type = kind
    if kind in (TensorProto.FLOAT16, TensorProto.DOUBLE):
        model.graph.node[-1].input[0] = "logits_of_that_kind"
        model.graph.node.insert(
            len(model.graph.node) - 1, helper.make_node("Cast", ["logits"], ["logits_of_that_kind"], to=kind)
        )
        last.type.tensor_type.elem_type = kind


@pytest.mark.parametrize(
    ("kind", "pixel_range"),
    [
        (TensorProto.FLOAT16, (0, 255)),
        (TensorProto.FLOAT16, (-1, 1)),
        (TensorProto.DOUBLE, (0, 255)),
        (TensorProto.UINT8, (0, 255)),
        (TensorProto.INT8, (-128, 127)),
    ],
)
def test_pixels_of_other_kinds(plain, pixels, changed, kind, pixel_range):
    def change(model):
        retyped(model, kind)

    source = changed(change, ending="softmax")
    opened = open_model(source, input_format=InputFormat(range=pixel_range))
    assert opened.logits_from == BEFORE_SOFTMAX
    low, high = pixel_range
    given = low + pixels * (high - low) / 255
    expected = plain.predict_on_batch(np.rint(given) if kind in (TensorProto.UINT8, TensorProto.INT8) else given)
    logits = opened.predict(pixels)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_whole_numbers_hold_no_small_range(changed):
    def change(model):
        retyped(model, TensorProto.UINT8)

    message = refusal(open_model, changed(change, ending="softmax"), input_format=InputFormat(range=(0, 1)))
    assert (
        "takes whole numbers 0..255 (uint8), the settings make 0..1 of the pixels: give --input.range 0 255"
        in message
    )


def open_sides(model, batch_too=False):
    """Let the file say nothing of the shape of its images."""
    for place, dim in enumerate(model.graph.input[0].type.tensor_type.shape.dim):
        if place or batch_too:
            dim.dim_param = f"side{place}"


def external(tensor, location):
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


class TestRefused:
    def test_weights_in_other_files(self, changed, tmp_path):
        source = changed(lambda model: external(model.graph.initializer[0], "../../etc/passwd"))
        assert refusal(open_model, source).startswith(f"{source} keeps weights in other files: save it as one")

    def test_weights_in_other_files_deep_in_a_branch(self, changed):
        def change(model):
            tensor = TensorProto(name="secret", data_type=TensorProto.FLOAT, dims=[1])
            external(tensor, "secret")
            inner = helper.make_node("Constant", [], ["value"], value=tensor)
            branch = helper.make_graph([inner], "branch", [], [])
            model.graph.node.append(helper.make_node("If", ["flag"], ["x"], then_branch=branch, else_branch=branch))

        assert "keeps weights in other files" in refusal(open_model, changed(change))

    @pytest.mark.parametrize("content", [b"", b"words", b"\x08\x08\x12\x00:\x00", b"\xff" * 100])
    def test_what_is_no_onnx_file(self, tmp_path, content):
        (tmp_path / "teacher.onnx").write_bytes(content)
        assert "teacher.onnx" in refusal(open_model, str(tmp_path / "teacher.onnx"))

    @pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
    def test_a_truncated_file(self, plain, tmp_path, kept):
        source = write_onnx(plain, tmp_path)
        with open(source, "r+b") as file:
            file.truncate(int(kept * len(file.read())))
        assert f"{source} " in refusal(open_model, source)

    def test_an_operator_that_onnxruntime_does_not_have(self, changed):
        source = changed(lambda model: setattr(model.graph.node[1], "op_type", "Enchant"))
        assert f"{source} cannot be run by onnxruntime: " in refusal(open_model, source)

    def test_nothing_but_its_line_is_printed(self, changed, capfd):
        unknown = changed(lambda model: setattr(model.graph.node[1], "op_type", "Enchant"))
        refusal(onnx_file.open_file, unknown, InputFormat(), "float32", "auto")
        open_to_any = changed(lambda model: open_sides(model, batch_too=True))
        described = InputFormat(size=2, layout="channels_first", channels=3)
        refusal(onnx_file.open_file, open_to_any, described, "float32", "auto")
        assert capfd.readouterr() == ("", "")

    def test_a_layout_that_nothing_says(self, plain, pixels, changed):
        source = changed(open_sides)
        described = InputFormat(size=8, channels=3)
        assert "does not say where the channels of its images are: give --input.layout channels_first" in refusal(
            open_model, source, input_format=described
        )
        opened = open_model(source, input_format=replace(described, layout="channels_first"))
        square = np.concatenate([pixels, pixels], axis=2)[:, :, :8]
        assert opened.predict(square).shape == (7, 4)

    def test_several_inputs_or_outputs(self, changed):
        more = helper.make_tensor_value_info("relu", TensorProto.FLOAT, None)
        message = refusal(open_model, changed(lambda model: model.graph.output.append(more)))
        assert "has 2 outputs (logits, relu), expected one: the logits" in message
        more = helper.make_tensor_value_info("age", TensorProto.FLOAT, [1])
        message = refusal(open_model, changed(lambda model: model.graph.input.append(more)))
        assert "has 2 inputs (pixels, age), expected one: the images" in message

    def test_pixels_of_another_type_or_shape(self, changed):
        def retype(model):
            model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64

        assert "takes int64, expected pixels as float, float16," in refusal(open_model, changed(retype))

        def flatten(model):
            del model.graph.input[0].type.tensor_type.shape.dim[2:]

        assert "takes inputs of shape [3], expected images" in refusal(open_model, changed(flatten))

    @pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
    def test_a_missing_package_is_named(self, plain, tmp_path, monkeypatch, package):
        source = write_onnx(plain, tmp_path)
        monkeypatch.setitem(sys.modules, package, None)
        assert refusal(open_model, source).endswith('pip install "distill-faces[onnx]"')


def test_a_loop_which_may_never_end_is_refused(changed):
    def change(model):
        body = helper.make_graph([helper.make_node("Identity", ["b"], ["c"])], "body", [], [])
        inner = helper.make_graph([helper.make_node("Loop", ["", ""], ["d"], body=body)], "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["a"], ["e"], then_branch=inner, else_branch=body))

    assert "has a loop, Loop, which may never end" in refusal(open_model, changed(change))


def test_a_circle_of_identities_at_the_end_is_refused(changed):
    def change(model):
        last = model.graph.output[0].name
        for node in model.graph.node:
            if last in node.output:
                node.output[0] = "before"
        model.graph.node.append(helper.make_node("Identity", ["round"], [last]))
        model.graph.node.append(helper.make_node("Identity", [last], ["round"]))

    assert "cannot be run by onnxruntime" in refusal(open_model, changed(change))
