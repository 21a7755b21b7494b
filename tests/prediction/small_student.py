"""A tiny exported student, and a photo of a real face."""

from pathlib import Path

import keras
import matplotlib

from distill.exporting import litert_metadata, onnx_export
from distill.exporting.graph import probabilities_network
from distill.exporting.litert import litert_flatbuffer
from distill.prediction.description import ModelDescription
from students import MicroExpNet

PORTRAIT = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
"""512 x 600 pixels with one face."""
PORTRAIT_FACE = (170, 125, 365, 335)
"""Left, top, right and bottom of brows to chin, pixels."""
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
DESCRIPTION = ModelDescription(
    name="microexpnet",
    class_names=CLASSES,
    input_shape=(32, 32, 1),
    precision="float32",
    weights_sha256="0",
    trained_on="nothing",
    version="0",
)


def write_students(folder: Path) -> None:
    """Write an untrained student into `folder`, as small.tflite and as small.onnx."""
    keras.utils.set_random_seed(0)
    network = probabilities_network(MicroExpNet(classes=7, input_shape=(32, 32)))
    litert = litert_metadata.described_file(litert_flatbuffer(network, "float32"), DESCRIPTION)
    (folder / "small.tflite").write_bytes(litert)
    (folder / "small.onnx").write_bytes(onnx_export.described_file(onnx_export.onnx_model(network), DESCRIPTION))
