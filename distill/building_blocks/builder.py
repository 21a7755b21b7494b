"""`builder`: a function that lays layers becomes a network builder with the signature of `keras.applications`."""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from functools import partial, wraps

from distill.building_blocks.conventions import classifier, finished, image_input, pooled

_ARGUMENTS = """\
Pixels in are 0..255, `[B, H, W, C]`; a layer of the network scales them, if anything does. Raw logits
`[B, classes]` come out, since a distillation needs them: pass `classifier_activation="softmax"` for probabilities.

Args:
    include_top: False ends at the last feature map, {last_map} at the default shape.
    weights: None, or a `.weights.h5` or `.keras` file to load.
    input_tensor: a Keras tensor of pixels to build on; its shape is the input shape.
    input_shape: `(H, W, C)` or `(H, W)`, by default {input_shape}; {sizes}.
        {unknown}H and W may be None.
    pooling: with `include_top=False`, None, "avg" or "max".
    classes: number of logits.
    classifier_activation: activation of the last layer; None gives raw logits.
    name: name of the model.
{options}
Raises:
    ValueError: an `input_shape` that is not an image shape, too small, or of unknown size where the map is flattened;
        an unknown `pooling`; {wrong_options}a `weights` file that does not fit.
"""


def builder(
    *,
    name: str,
    input_shape: tuple[int, int, int],
    classes: int,
    smallest: int | Callable[..., int],
    last_map: str,
    flattens: bool = False,
    options: Mapping[str, str] | None = None,
) -> Callable[[Callable], Callable]:
    """Decorate `layers(pixels, top, **options)`, which returns the output tensor.

    `top` is the last layer, to be called on features `[B, F]` and with further settings of `Dense`; it is None where
    the network is to end at its last feature map. Keyword-only arguments of `layers` become options of the builder,
    and its docstring becomes the beginning of the builder's.

    Args:
        name: default name of the network.
        input_shape: the published height, width and channels.
        classes: the published number of logits.
        smallest: the least height and width from which every layer still has an output; where that depends on the
            options, a function of them.
        last_map: height, width and channels of the last feature map at `input_shape`, for the docstring.
        flattens: whether the top reads a flattened map, so that height and width must be known.
        options: for the docstring, option -> what it is.
    """
    published_shape = input_shape

    def decorate(layers):
        own = [each for each in inspect.signature(layers).parameters.values() if each.kind is each.KEYWORD_ONLY]
        defaults = {each.name: each.default for each in own}

        def least(options):
            return smallest(**{**defaults, **options}) if callable(smallest) else smallest

        @wraps(layers)
        def build(
            include_top=True,
            weights=None,
            input_tensor=None,
            input_shape=None,
            pooling=None,
            classes=classes,
            classifier_activation=None,
            name=name,
            **options,
        ):
            pixels = image_input(
                input_tensor,
                input_shape,
                default=published_shape,
                smallest=least(options),
                name=name,
                any_size=not (flattens and include_top),
            )
            top = partial(classifier, classes=classes, activation=classifier_activation) if include_top else None
            outputs = layers(pixels, top, **options)
            outputs = outputs if include_top else pooled(outputs, pooling)
            return finished(pixels, outputs, weights=weights, name=name)

        common = inspect.signature(build, follow_wrapped=False).parameters.values()
        common = [each for each in common if each.kind is not each.VAR_KEYWORD]
        build.__signature__ = inspect.Signature([*common, *own])
        arguments = _ARGUMENTS.format(
            last_map=last_map,
            input_shape=published_shape,
            sizes="any size works" if least({}) == 1 else "at least {0}x{0}".format(least({})),
            unknown="Without the top, " if flattens else "",
            options=_entries(options or {}),
            wrong_options="an option out of range; " if options else "",
        )
        build.__doc__ = f"{inspect.cleandoc(layers.__doc__)}\n\n{arguments}"
        return build

    return decorate


def _entries(options):
    """The lines of a docstring that say what each option is."""
    lines = [textwrap.wrap(f"{name}: {what}", 106, subsequent_indent="    ") for name, what in options.items()]
    return "".join(f"    {line}\n" for entry in lines for line in entry)
