"""All stages in one, on faces that are drawn here: `python -m distill.quickstart`."""

import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated

from tyro.conf import arg

from distill.command_line.stage import print_next, run_stage
from distill.refusals import check_at_least


@dataclass(frozen=True, kw_only=True)
class QuickstartSettings:
    """Draw faces, train a teacher, cache its logits, and train the same student with and without them.

    Repeat the command to resume after an interruption.
    """

    out: str = "quickstart"
    """Directory for the runs, the logits, the table and the picture."""
    faces: int = 3000
    """How many faces to draw, for training, validation and test together."""
    teacher_epochs: int = 12
    """Passes of the teacher over the training images."""
    student_epochs: int = 15
    """Passes of each student over the training images."""
    views: int = 4
    """Views of each image, which the teacher scores and both kinds of student learn from."""
    temperature: float = 4.0
    """T, which softens both the teacher and the student."""
    lambda_: Annotated[float, arg(name="lambda")] = 0.9
    """Weight of the teacher in the distilled students' loss; the labels weigh the rest."""
    seeds: int = 3
    """Students of each kind. They differ in their initial weights and the order of images."""

    def __post_init__(self):
        check_at_least(1, seeds=self.seeds)


@dataclass(frozen=True)
class Result:
    """A line of the table: the networks of one kind."""

    accuracies: list[float]
    """On the test split, one per seed."""
    parameters: int
    weight_bytes: int
    images_per_second: float


def quickstart(settings: QuickstartSettings) -> dict[str, Result]:
    """Run all stages, print the table, and leave everything in `settings.out`."""
    from distill.data.synthetic_faces import synthetic_faces
    from distill.losses.distillation_loss import DistillationLoss
    from distill.scoring.caching import cache_logits
    from distill.training.recipe import Recipe
    from distill.training.train import train, train_from_labels
    from students import MicroExpNet
    from teachers import PlainResNetTiny

    out = Path(settings.out)
    teacher_recipe = Recipe(epochs=settings.teacher_epochs, lr=3e-3)
    student_recipe = Recipe(epochs=settings.student_epochs, lr=1e-3, batch_size=32)
    # At the size of the faces, which nothing is gained from enlarging; so short a training leaves nothing to drop.
    student = partial(MicroExpNet, input_shape=(48, 48), pixel_scale=1 / 16, keep_prob=1.0)
    distilled = DistillationLoss(name="hinton", temperature=settings.temperature, lambda_=settings.lambda_)

    dataset = synthetic_faces(settings.faces)
    print(f"{len(dataset):,} synthetic faces of {dataset.num_classes} expressions\n\n1. a teacher, from labels")
    teacher = _train(train_from_labels, PlainResNetTiny, dataset, out / "teacher", teacher_recipe)
    print("\n2. its logits, once for all students")
    names = dataset.class_names
    logits = cache_logits(teacher, dataset, out / "logits.h5", views=settings.views, class_names=names)
    print(f"\n3. {settings.seeds} students from labels alone, {settings.seeds} from labels and logits")
    networks = {"teacher": [teacher], "labels alone": [], "distilled": []}
    for seed in range(settings.seeds):
        recipe = replace(student_recipe, seed=seed)
        alone = _train(train, student, dataset, out / f"labels-alone-{seed}", recipe, views=settings.views)
        networks["labels alone"].append(alone)
        taught = _train(
            train, student, dataset, out / f"distilled-{seed}", recipe, logits=logits, objective=distilled
        )
        networks["distilled"].append(taught)
    results = {kind: _measure(trained, dataset.split("test")) for kind, trained in networks.items()}
    print(f"\n{_table(results)}\n\n{_gain(results)}")
    _save(results, dataset, out)
    print(f"\nin {out}: quickstart.png, quickstart.json, logits.h5 and the run of every network\n")
    print_next(
        "distill.predict photo.jpg",
        "distill.crop_faces photos --out faces",
        "distill.teacher_logits --data faces --teacher fer2013_resnet10 --out logits.h5",
        "distill.train_student --data faces --logits logits.h5 --student slim_resnet --out student",
    )
    return results


def _train(train, builder, dataset, out: Path, recipe, **how):
    import keras

    keras.utils.set_random_seed(recipe.seed)
    return train(builder(classes=dataset.num_classes), dataset, out=out, recipe=recipe, **how)


def _measure(networks: list, test) -> Result:
    import numpy as np

    from distill.evaluation.evaluate_model import evaluate_model
    from distill.scoring.scorer import Scorer

    accuracies = [evaluate_model(network, test).accuracy for network in networks]
    scorer, everything = Scorer(networks[0], test), np.arange(len(test))
    scorer.score(everything)  # the first call compiles
    started = time.perf_counter()
    scorer.score(everything)
    return Result(
        accuracies=accuracies,
        parameters=networks[0].count_params(),
        weight_bytes=sum(weight.nbytes for weight in networks[0].get_weights()),
        images_per_second=len(test) / (time.perf_counter() - started),
    )


def _table(results: dict[str, Result]) -> str:
    lines = [f"{'':14}{'test accuracy':>18}{'parameters':>13}{'bytes':>12}{'images/s':>11}"]
    for kind, result in results.items():
        spread = f" ± {100 * stdev(result.accuracies):.1f}" if len(result.accuracies) > 1 else " " * 6
        accuracy = f"{100 * mean(result.accuracies):.1f} %{spread}"
        lines.append(
            f"{kind:14}{accuracy:>18}{result.parameters:13,}{result.weight_bytes:12,}"
            f"{result.images_per_second:11,.0f}"
        )
    return "\n".join(lines)


def _gain(results: dict[str, Result]) -> str:
    """Return what distillation gains seed by seed, which the two deviations in the table do not show."""
    from distill.experiments.comparison import paired_difference
    from distill.reports.metrics import CONFIDENCE

    taught, alone = (dict(enumerate(results[kind].accuracies)) for kind in ("distilled", "labels alone"))
    gain = paired_difference(taught, alone)
    by_seed = ", ".join(f"{100 * (taught[seed] - alone[seed]):+.1f}" for seed in taught)
    text = f"distilled minus labels alone, by seed: {by_seed} points; mean {100 * gain.mean:+.1f}"
    if gain.interval is None:
        return f"{text}; one seed: it may be chance"
    return f"{text}, {CONFIDENCE:.0%} interval {100 * gain.interval[0]:+.1f} to {100 * gain.interval[1]:+.1f}"


def _save(results: dict[str, Result], dataset, out: Path) -> None:
    import numpy as np

    from distill.files.whole_files import write_json
    from distill.reports.plots import comparison_picture
    from distill.versions import versions

    test = dataset.split("test")
    first_of_class = [int(np.argmax(test.labels == number)) for number in range(test.num_classes)]
    comparison_picture(
        accuracies={kind: result.accuracies for kind, result in results.items()},
        faces=test.read(np.array(first_of_class)),
        face_names=test.class_names,
        path=out / "quickstart.png",
    )
    results_json = {kind: asdict(result) for kind, result in results.items()}
    write_json(out / "quickstart.json", {"results": results_json, "versions": versions()})


def main() -> None:
    run_stage(quickstart, QuickstartSettings)


if __name__ == "__main__":
    main()
