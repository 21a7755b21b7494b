import numpy as np
import pytest

from distill import cache, compare, describe_data, evaluate, export, teacher_logits, train_student, train_teacher
from distill.command_line.data_settings import DataClasses, DataSettings, FoldSettings
from distill.data.expressions import CLASS_ORDERS
from distill.errors import InputError


@pytest.fixture
def pair(tmp_path):
    """Faces numbered 1..7, as RAF-DB does."""
    np.save(tmp_path / "faces-images.npy", np.zeros((14, 4, 4), np.uint8))
    np.save(tmp_path / "faces-labels.npy", np.arange(14) % 7 + 1)
    return str(tmp_path / "faces-images.npy")


@pytest.mark.parametrize("settings", [DataSettings, FoldSettings])
def test_named_classes_are_those_of_the_data(pair, settings, capsys):
    with pytest.raises(InputError, match="name the classes with --data-classes"):
        settings(data=pair).open()
    dataset = settings(data=pair, data_classes="rafdb").open()
    assert dataset.class_names == CLASS_ORDERS["rafdb"]
    assert dataset.labels.tolist() == [*range(7)] * 2
    assert "note: labels count from 1: 1 surprise" in capsys.readouterr().out


def test_folds_take_named_classes(pair):
    assert FoldSettings(data=pair, data_classes="rafdb", folds=3).open_folds().class_names == CLASS_ORDERS["rafdb"]


@pytest.mark.parametrize(
    "settings",
    [
        cache.InspectSettings,
        cache.VerifySettings,
        compare.CompareSettings,
        describe_data.DescribeDataSettings,
        evaluate.EvaluateSettings,
        export.ExportSettings,
        teacher_logits.TeacherLogitsSettings,
        train_student.TrainStudentSettings,
        train_teacher.TrainTeacherSettings,
    ],
)
def test_every_command_with_data_takes_its_classes(settings):
    assert issubclass(settings, DataClasses)


def test_describe_data_names_the_classes(pair, tmp_path, capsys):
    settings = describe_data.DescribeDataSettings(data=pair, data_classes="rafdb", out=str(tmp_path / "faces.png"))
    describe_data.describe_data(settings)
    table = capsys.readouterr().out
    assert "note: labels count from 1: 1 surprise, 2 fear" in table
    assert [line.split()[0] for line in table.splitlines() if line.endswith("         2")] == list(
        CLASS_ORDERS["rafdb"]
    )
