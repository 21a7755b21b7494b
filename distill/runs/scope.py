"""Where the variables of a network live: under the `tf.distribute` strategy that it was built in, if there is one.

What is trained with a network, such as its optimizer, has to be made in the same place. Saving must stay outside: it
makes variables of its own, in one process alone.
"""

from contextlib import AbstractContextManager, nullcontext

import keras


def scope_of(network: keras.Model) -> AbstractContextManager:
    """Return the scope to make variables in that belong to `network`; other backends than TensorFlow have none."""
    strategy = getattr(network, "distribute_strategy", None)
    return nullcontext() if strategy is None else strategy.scope()


def replicas_of(network: keras.Model) -> int:
    """Return among how many replicas, in all processes together, a batch for `network` is divided."""
    strategy = getattr(network, "distribute_strategy", None)
    return 1 if strategy is None else strategy.num_replicas_in_sync


def clone(network: keras.Model) -> keras.Model:
    """Return a network of the same layers, with weights of its own; neither is it compiled, if `network` is."""
    with scope_of(network):
        return type(network).from_config(network.get_config())
