"""Train a network from labels, or from labels and cached logits, into a run directory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import keras

from distill.data.dataset import Dataset
from distill.data.views import ViewSpec
from distill.errors import InputError
from distill.logit_store import LogitStore
from distill.training.batches import ViewBatches, label_probabilities
from distill.training.ensemble import CachedTeachers
from distill.training.losses import DistillationLoss
from distill.training.network_identity import architecture_sha256, check_gives_logits, numeric_policy
from distill.training.optimizer import build_optimizer, epoch_learning_rate
from distill.training.recipe import Recipe
from distill.training.run_directory import RunDirectory


def train(
    network: keras.Model,
    dataset: Dataset,
    *,
    out: str | Path,
    logits: LogitStore | Sequence[LogitStore] | CachedTeachers | None = None,
    loss: DistillationLoss | None = None,
    views: int | None = None,
    recipe: Recipe | None = None,
    provenance: Mapping | None = None,
    progress: bool = True,
) -> keras.Model:
    """Train `network` on the train split of `dataset`; keep the epoch that is best on its validation split.

    Images without a label teach through their logits alone, and choose nothing. This is the trainer of
    students: one `tf.GradientTape` step, on the TensorFlow backend.

    Args:
        network: takes pixels 0..255 at its own `input_shape`, returns raw logits. Its weights are where
            training begins; they are not part of what decides whether a run in `out` is the same.
        dataset: with a "train" and a "validation" split (see `with_splits`).
        out: the run directory. A finished run of the same settings is returned at once; an interrupted one
            goes on.
        logits: cached logits of a teacher, which also prescribe the views; or of several, which weigh the same
            unless `CachedTeachers` says otherwise. None trains from labels alone.
        loss: by default MicroExpNet's with `logits`, and cross entropy without.
        views: without `logits`, how many views of each image the epochs go through; None draws a new one
            in every epoch, or goes through all crops.
        recipe: epochs, learning rate, batch size, seed. The seed does not reach weights that are drawn
            already: call `keras.utils.set_random_seed` before building the network.
        provenance: JSON-able facts for the run's record, such as the weights that the network begins with.

    Returns:
        The network of the best epoch.

    Raises:
        InputError: the logits are of another data set or class order, or were cached with other views than
            those asked for, or than those of another teacher; `out` holds something else; the network has
            another number of classes or ends in a softmax; a loss with lambda above 0 has no logits to use; no
            label to learn or choose by; random views are asked for where there are none to take from.
    """
    from distill.training.trainer import fit  # needs TensorFlow

    recipe = recipe or Recipe()
    loss = loss or DistillationLoss(lambda_=0.0 if logits is None else DistillationLoss.lambda_)
    teachers = None if logits is None else CachedTeachers.of(logits)
    _check(network, dataset, loss=loss, teachers=teachers, views=views, view_spec=recipe.view)
    return _run(
        partial(fit, loss=loss),
        network,
        dataset,
        out=out,
        teachers=teachers,
        loss=loss,
        views=views,
        recipe=recipe,
        provenance=provenance,
        progress=progress,
    )


def train_from_labels(
    network: keras.Model,
    dataset: Dataset,
    *,
    out: str | Path,
    views: int | None = None,
    recipe: Recipe | None = None,
    provenance: Mapping | None = None,
    progress: bool = True,
) -> keras.Model:
    """Train `network` from labels with Keras' own `fit`: the trainer of teachers, on any backend of Keras.

    Arguments, values and errors are those of `train`.
    """
    from distill.training.keras_trainer import fit_labels

    recipe, loss = recipe or Recipe(), DistillationLoss(lambda_=0.0)
    _check(network, dataset, loss=loss, teachers=None, views=views, view_spec=recipe.view)
    return _run(
        fit_labels,
        network,
        dataset,
        out=out,
        teachers=None,
        loss=loss,
        views=views,
        recipe=recipe,
        provenance=provenance,
        progress=progress,
    )


def _run(
    fit: Callable[..., keras.Model],
    network: keras.Model,
    dataset: Dataset,
    *,
    out: str | Path,
    teachers: CachedTeachers | None,
    loss: DistillationLoss,
    views: int | None,
    recipe: Recipe,
    provenance: Mapping | None,
    progress: bool,
) -> keras.Model:
    """Open the run directory, and call `fit` unless the run is complete."""
    dataset.content_hashes  # noqa: B018 - read every image once, not once per split
    training, validation = dataset.split("train"), dataset.split("validation")
    taught = training if loss.lambda_ > 0 else _labelled(training)
    batches = ViewBatches(
        taught,
        image_shape=network.input_shape[1:],
        view_spec=recipe.view if teachers is None else teachers.view_spec,
        teacher_logits=None if teachers is None else teachers.join(taught, temperature=loss.temperature),
        views=(views or recipe.view.crop_count or None) if teachers is None else teachers.views,
        view_order=recipe.view_order,
        batch_size=recipe.batch_size,
        label_smoothing=recipe.label_smoothing,
        seed=recipe.seed,
    )
    record = _record(network, training, validation, batches=batches, teachers=teachers, loss=loss, recipe=recipe)
    known = {name: value for name, value in (provenance or {}).items() if value is not None}
    run = RunDirectory(out, {**record, **({"provenance": known} if known else {})})
    if run.complete:
        print(f"{run.path} is already complete")
        return run.best_network()
    if progress:
        print(f"{network.name} ({network.count_params():,} parameters) learns {loss.formula}")
    return fit(
        network,
        batches,
        _labelled(validation),
        optimizer=build_optimizer(recipe, steps_per_epoch=len(batches)),
        epochs=recipe.epochs,
        learning_rate=partial(epoch_learning_rate, recipe, steps_per_epoch=len(batches)),
        run=run,
        progress=progress,
    )


def _labelled(dataset: Dataset) -> Dataset:
    return dataset.subset(label_probabilities(dataset).any(axis=1))


def _check(
    network: keras.Model,
    dataset: Dataset,
    *,
    loss: DistillationLoss,
    teachers: CachedTeachers | None,
    views: int | None,
    view_spec: ViewSpec,
) -> None:
    check_gives_logits(network, dataset)
    if teachers is None and loss.lambda_ > 0:
        raise InputError(f"lambda {loss.lambda_:g} needs a teacher's logits: give --logits, or --lambda 0")
    if views is not None and views < 1:
        raise InputError(f"views must be at least 1 (the untouched image), received {views}")
    if teachers is None and view_spec.crops and (views or 0) > view_spec.crop_count:
        raise InputError(f'the crops "{view_spec.crops}" are {view_spec.crop_count} views, received --views {views}')
    if teachers is not None:
        _check_views(teachers, views, view_spec)
    labelled = label_probabilities(dataset).any(axis=1)
    for split in ("validation", "train"):
        if not labelled[dataset.splits == split].any() and (split == "validation" or loss.lambda_ < 1):
            raise InputError(f"the {split} split of {dataset.name} has no labels: give labelled images")


def _check_views(teachers: CachedTeachers, views: int | None, view_spec: ViewSpec) -> None:
    """Refuse an augmentation that the teachers never scored."""
    path = teachers.stores[0].path
    if views not in (None, teachers.views):
        raise InputError(
            f"{views} views are asked for, {path} holds {teachers.views}: leave --views out, or cache again"
        )
    stored = teachers.view_spec.to_dict()
    changed = [
        f"{name}: stored {stored.get(name)}, asked for {value}"
        for name, value in view_spec.to_dict().items()
        if value != stored.get(name)
    ]
    if changed and view_spec != ViewSpec():
        raise InputError(
            f"{path} was cached with other views ({'; '.join(changed)}): leave --view out, or cache again"
        )


def _record(
    network: keras.Model,
    training: Dataset,
    validation: Dataset,
    *,
    batches: ViewBatches,
    teachers: CachedTeachers | None,
    loss: DistillationLoss,
    recipe: Recipe,
) -> dict:
    """What makes this run the run it is."""
    return {
        "settings": asdict(recipe),
        "network": {
            "name": network.name,
            "input_shape": network.input_shape[1:],
            "parameters": network.count_params(),
            "architecture_sha256": architecture_sha256(network),
            "policy": numeric_policy(network),
        },
        "class_names": training.class_names,
        "data": {"name": training.name}
        | {
            name: {"images": len(split), "fingerprint": split.fingerprint}
            for name, split in (("train", training), ("validation", validation))
        },
        "loss": {**asdict(loss), "formula": loss.formula},
        "views": {"spec": batches.view_spec.to_dict(), "number": batches.views},
        "teacher": None if teachers is None else teachers.describe(),
    }
