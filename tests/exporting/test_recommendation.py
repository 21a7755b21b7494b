"""What is recommended follows from what was measured."""

from distill.exporting.recommendation import recommend
from distill.prediction.latency import Latency


def row(format, *, bytes, speed, accuracy=0.6, agreement=1.0, ending=".tflite"):
    from distill.exporting.comparing import ExportRow

    file = "" if format == "keras" else f"small-{format}{ending}"
    return ExportRow(format, file, bytes, 0.0, agreement, accuracy, Latency(1000 / speed, 1000 / speed, float(speed)))


STUDENT = row("keras", bytes=1000, speed=100)


def test_the_fastest_is_taken():
    taken, advice = recommend(
        [STUDENT, row("litert-float32", bytes=1000, speed=500), row("litert-int8", bytes=300, speed=1000)]
    )
    assert taken.format == "litert-int8"
    assert advice[0] == "Take small-litert-int8.tflite: 300 bytes, 1,000 frames/s here, the student's accuracy."
    assert advice[1].startswith("small-litert-float32.tflite: 2.0 times slower, 3.3 times the size, 1,000 bytes")


def test_a_student_that_is_worth_nothing_is_not_recommended():
    rows = [STUDENT, row("litert-int8", bytes=300, speed=1000)]
    taken, advice = recommend(rows, verdict="it is no better than chance")
    assert taken.format == "litert-int8"  # what a folder of an export opens
    assert advice == [
        "No file is worth taking: it is no better than chance.",
        "small-litert-int8.tflite: 300 bytes, 1,000 frames/s here, the student's accuracy.",
    ]


def test_of_equally_fast_ones_the_smallest_is_taken():
    rows = [STUDENT, row("litert-float32", bytes=1000, speed=1005), row("litert-float16", bytes=500, speed=1000)]
    assert recommend(rows)[0].format == "litert-float16"


def test_a_quantised_network_that_got_slower_is_not_taken_and_says_why():
    rows = [STUDENT, row("litert-float32", bytes=1000, speed=5900), row("litert-int8", bytes=300, speed=2200)]
    taken, advice = recommend(rows)
    assert taken.format == "litert-float32"
    assert "2.7 times slower (small networks often get slower in 8 bits" in advice[1]
    assert "30% of the size" in advice[1]


def test_accuracy_comes_before_speed():
    fast = row("litert-int8", bytes=300, speed=9000, accuracy=0.59)
    assert recommend([STUDENT, row("litert-float32", bytes=1000, speed=500), fast])[0].format == "litert-float32"
    disagreeing = row("litert-int8", bytes=300, speed=9000, agreement=0.9)
    rows = [STUDENT, row("litert-float32", bytes=1000, speed=500), disagreeing]
    assert recommend(rows)[0].format == "litert-float32"


def test_where_all_lose_the_most_accurate_is_taken():
    rows = [
        STUDENT,
        row("litert-float16", bytes=500, speed=9000, accuracy=0.4),
        row("litert-int8", bytes=300, speed=1, accuracy=0.5),
    ]
    taken, advice = recommend(rows)
    assert taken.format == "litert-int8"
    assert "accuracy -10.0 points" in advice[0]


def test_without_a_litert_file_another_is_taken():
    onnx = row("onnx", bytes=1000, speed=1, ending=".onnx")
    assert recommend([STUDENT, onnx])[0] is onnx


def test_what_predict_cannot_open_is_taken_last():
    onnx, saved = row("onnx", bytes=1000, speed=1, ending=".onnx"), row("saved-model", bytes=1000, speed=9, ending="")
    assert recommend([STUDENT, saved, onnx])[0] is onnx
    assert recommend([STUDENT, saved])[0] is saved
