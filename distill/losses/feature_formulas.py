"""Losses on features: pure functions of what a layer of the student and one of the teacher give.

Every function takes keyword-only arguments and returns float32 [B]; the trainer alone reduces them. All of them share
these arguments:

    student_features: float [B, ...] of any precision.
    teacher_features: float [B, ...] of any precision; no gradient flows into them, but for `contrastive`.

s and t are the features of an image as one row of numbers, i, j and k images of the batch. Where a loss is of pairs
or triples of images, the value of one is the mean over those that it is the first of; so the mean over the batch is
the loss of the papers. Values and gradients stay finite where features are zero, or those of two images are the same.
"""

from typing import NamedTuple

from keras import ops

from distill.losses.formulas import Tensor

_SMALLEST_SQUARE = 1e-12  # as in the authors' code: below it, nothing is divided by a norm
_ROUNDED_AWAY = 1e-6  # share of two squares below which float32 does not know their difference
_HUBER = 1.0


def hint(*, student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean over all numbers of (s - t)², of features of one shape.

    FitNets (Romero et al. 2015, https://arxiv.org/abs/1412.6550, equation 3) sums, and halves: here it is the mean,
    as in later code, so that a weight means the same for features of any size.
    """
    student, teacher = _float32(student_features), _constant(teacher_features)
    return ops.mean(ops.reshape((student - teacher) ** 2, (-1, _numbers(student))), axis=-1)


def attention_transfer(*, student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean over positions of (a_s - a_t)², a = q / ‖q‖, q = mean over channels of the squares, at each position.

    Zagoruyko and Komodakis 2017, https://arxiv.org/abs/1612.03928, equation 2 for p = 2, as their code has it: the
    mean in place of the norm.

    Args:
        student_features, teacher_features: [B, H, W, channels] of the same H and W, of any channels.
    """
    student, teacher = _attention(_float32(student_features)), _attention(_constant(teacher_features))
    return ops.mean((student - teacher) ** 2, axis=-1)


def relational(
    *, student_features: Tensor, teacher_features: Tensor, distance: float = 1.0, angle: float = 2.0
) -> Tensor:
    """distance · mean_j h(d_ij^s - d_ij^t) + angle · mean_jk h(c_ijk^s - c_ijk^t), h the Huber loss at 1.

    d_ij = ‖f_i - f_j‖ divided by its mean over all pairs of other images; c_ijk is the cosine of the angle at f_i
    between f_j and f_k. Features may have any two shapes. Relational knowledge distillation (Park et al. 2019,
    https://arxiv.org/abs/1904.05068, equations 4 to 9). All of it comes from the inner products of images, which take
    B² numbers and the cosines B³, however large a feature is; two images whose features are the same in float32 have
    no direction.
    """
    student, teacher = _squares(_float32(student_features)), _squares(_constant(teacher_features))
    distances = ops.mean(_huber(_distances(student) - _distances(teacher)), axis=1)
    angles = ops.mean(_huber(_cosines(student) - _cosines(teacher)), axis=(1, 2))
    return distance * distances + angle * angles


def similarity_preserving(*, student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """mean_j (g_ij^s - g_ij^t)², g_i = the row of all inner products f_i · f_j, divided by its norm.

    Features may have any two shapes. Tung and Mori 2019, https://arxiv.org/abs/1907.09682, equations 1 to 4.
    """
    student, teacher = _similarities(_float32(student_features)), _similarities(_constant(teacher_features))
    return ops.mean((student - teacher) ** 2, axis=1)


def contrastive(*, student_features: Tensor, teacher_features: Tensor, temperature: float = 0.07) -> Tensor:
    """-log h(s_i, t_i) - log h(t_i, s_i), h(a_i, b_j) = exp(a_i·b_j / T) / sum_k exp(a_i·b_k / T), of norm 1.

    Contrastive representation distillation (Tian et al. 2020, https://arxiv.org/abs/1910.10699) with the negatives of
    the batch: s and t are what two layers, trained with the student, make of the features of both. The critic h of
    the paper, exp(s·t / T) / (exp(s·t / T) + N / M), tells the pair of one image from N pairs of two images. It takes
    their others from a memory bank of all M images: embeddings of earlier steps, drawn at random, which a run that
    goes on would have to keep. Here the others are the B - 1 of the batch, whose sum stands for N / M (InfoNCE,
    van den Oord et al. 2018, https://arxiv.org/abs/1807.03748), and nothing is remembered. As in the authors' code,
    images are told apart from the side of the student and from that of the teacher; other than there, negatives may
    be of the same class.

    Args:
        student_features, teacher_features: [B, D] of the same D; gradients flow into both.
        temperature: T > 0.
    """
    student, teacher = _normalised(_float32(student_features)), _normalised(_float32(teacher_features))
    scores = ops.matmul(student, ops.transpose(teacher)) / temperature
    return -(_own_log_prob(scores) + _own_log_prob(ops.transpose(scores)))


def _own_log_prob(scores: Tensor) -> Tensor:
    """[B], of [B, B]: what the softmax of each row gives its own column."""
    return ops.diagonal(ops.log_softmax(scores, axis=-1))


def _attention(features: Tensor) -> Tensor:
    squares = ops.mean(features**2, axis=-1)
    return _normalised(ops.reshape(squares, (-1, _numbers(squares))))


class _Squares(NamedTuple):
    """Of images, float32 [B, B] each, from the inner products of features around their mean."""

    products: Tensor
    """(f_i - m)·(f_j - m)"""
    between: Tensor
    """‖f_i - f_j‖², 0 where rounding hides it."""


def _squares(features: Tensor) -> _Squares:
    rows = _rows(features)
    rows = rows - ops.mean(rows, axis=0)  # which changes no difference, and keeps the digits of small ones
    products = ops.matmul(rows, ops.transpose(rows))
    squares = ops.diagonal(products)
    both = squares[:, None] + squares[None, :]
    between = both - 2 * products
    return _Squares(products, ops.where(between > _ROUNDED_AWAY * both + _SMALLEST_SQUARE, between, 0.0))


def _distances(squares: _Squares) -> Tensor:
    """[B, B], divided by their mean over pairs of two images."""
    others = 1 - ops.eye(ops.shape(squares.between)[0])
    distances = ops.sqrt(ops.maximum(squares.between, _SMALLEST_SQUARE)) * others
    return distances * ops.sum(others) / ops.maximum(ops.sum(distances), _SMALLEST_SQUARE)


def _cosines(squares: _Squares) -> Tensor:
    """[B, B, B]: at image i, between the directions of j and k; 0 where one of them is i.

    (f_j - f_i)·(f_k - f_i) = p_jk - p_ij - p_ik + p_ii, p the inner products.
    """
    products, between = squares
    at = ops.diagonal(products)[:, None, None]
    along = products[None, :, :] - products[:, :, None] - products[:, None, :] + at
    known = between > 0
    inverse = ops.where(known, ops.rsqrt(ops.where(known, between, 1.0)), 0.0)
    return along * inverse[:, :, None] * inverse[:, None, :]


def _similarities(features: Tensor) -> Tensor:
    rows = _rows(features)
    return _normalised(ops.matmul(rows, ops.transpose(rows)))


def _huber(difference: Tensor) -> Tensor:
    size = ops.abs(difference)
    return ops.where(size < _HUBER, 0.5 * size**2, size - 0.5)


def _normalised(rows: Tensor) -> Tensor:
    """Divide by the norm over the last axis, or by less than nothing worth mentioning; zeros have no gradient."""
    return rows * ops.rsqrt(ops.maximum(ops.sum(rows**2, axis=-1, keepdims=True), _SMALLEST_SQUARE**2))


def _rows(features: Tensor) -> Tensor:
    return ops.reshape(features, (-1, _numbers(features)))


def _numbers(features: Tensor) -> int:
    count = 1
    for side in features.shape[1:]:
        count *= side
    return count


def _constant(features: Tensor) -> Tensor:
    return ops.stop_gradient(_float32(features))


def _float32(values: Tensor) -> Tensor:
    return ops.cast(values, "float32")
