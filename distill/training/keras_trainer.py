"""Training from labels with Keras' own `fit`, one epoch at a time: on any backend of Keras."""

from collections.abc import Mapping
from functools import partial

import keras
import numpy as np
from tqdm import tqdm

from distill.data.dataset import Dataset
from distill.runs.run_directory import RunDirectory
from distill.training.batches import ViewBatches
from distill.training.epochs import run_epochs, show_means

_LOSS = "weighted_loss"


def fit_labels(
    network: keras.Model,
    batches: ViewBatches,
    validation: Dataset,
    *,
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    run: RunDirectory,
    **how,
) -> keras.Model:
    """Train `network` on the cross entropy; arguments, values and files left are those of `run_epochs`."""
    network.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        weighted_metrics=[keras.metrics.CategoricalCrossentropy(from_logits=True, name=_LOSS)],
    )
    train_epoch = partial(_train_epoch, network, batches)
    return run_epochs(network, train_epoch, batches, validation, optimizer=optimizer, epochs=epochs, run=run, **how)


def _train_epoch(
    network: keras.Model,
    batches: ViewBatches,
    epoch: int,
    bar: tqdm,
    callback_list: keras.callbacks.CallbackList,
) -> dict[str, float]:
    raw_weights, progress = _WeightsAtEpochEnd(), _Progress(bar, batches, callback_list)
    history = network.fit(
        _RenderedEpoch(batches, epoch),
        initial_epoch=epoch,
        epochs=epoch + 1,
        shuffle=False,  # the batches are in a random order already
        callbacks=[progress, raw_weights],
        verbose=0,
    )
    if network.optimizer.use_ema:  # `fit` ends with their moving average in the place of the weights
        network.set_weights(raw_weights.weights)
    network.stop_training = progress.stops
    means = {name: float(values[-1]) for name, values in history.history.items()}
    return {f"train_{name}": value for name, value in _with_weighted_loss(means).items()}


def _with_weighted_loss(means: Mapping[str, float]) -> dict[str, float]:
    """Return Keras' means with the loss as `distill.train` has it: every example counts by its weight.

    That of Keras is a mean over batches, each divided by its own weight, and holds regularisers, too.
    """
    return {name: means[_LOSS if name == "loss" else name] for name in means if name != _LOSS}


class _RenderedEpoch(keras.utils.PyDataset):
    """The batches of one epoch; under TensorFlow they are drawn while it trains, elsewhere between steps."""

    def __init__(self, batches: ViewBatches, epoch: int):
        super().__init__()
        self._batches, self._epoch, self._order = batches, epoch, batches.order(epoch)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        batch = self._batches.render(self._batches.rows(self._order[index], self._epoch))
        return keras.ops.convert_to_numpy(batch.images), batch.label_probs, batch.sample_weights


class _Progress(keras.callbacks.Callback):
    """Moves the bar of the whole run, and calls the user's callbacks for batches; `run_epochs` does for epochs.

    Where one of them asks to stop, the epoch goes on to its end: what is recorded are whole epochs.
    """

    stops = False

    def __init__(self, bar: tqdm, batches: ViewBatches, callback_list: keras.callbacks.CallbackList):
        super().__init__()
        self._bar, self._batches, self._callback_list = bar, batches, callback_list

    def on_train_batch_begin(self, batch, logs=None):
        self._callback_list.on_train_batch_begin(batch, logs)  # a request to stop is read at the batch's end

    def on_train_batch_end(self, batch, logs=None):
        logs = _with_weighted_loss(logs)
        self._callback_list.on_train_batch_end(batch, logs)
        self.stops = self.stops or self.model.stop_training
        self.model.stop_training = False
        first = batch * self._batches.batch_size
        images = min(self._batches.batch_size, len(self._batches.dataset) - first)
        show_means(self._bar, logs, images=images)


class _WeightsAtEpochEnd(keras.callbacks.Callback):
    """Keeps the weights of the last step, where `fit` is about to replace them."""

    def on_epoch_end(self, epoch, logs=None):
        if self.model.optimizer.use_ema:
            self.weights = [np.array(weight) for weight in self.model.get_weights()]  # and no views of them
