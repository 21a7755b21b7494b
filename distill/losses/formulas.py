"""Losses: pure functions of logits and labels, one value per example.

Every function takes keyword-only arguments and returns float32 [B]; the trainer alone reduces them.
Temperature is applied here and nowhere else. All of them share these arguments:

    student_logits: float [B, C] of any precision.
    teacher_logits: float [B, C] of any precision; no gradient flows into them.
    label_probs: [B, C], probabilities of the classes. A row of zeros is an unlabelled example.
    temperature: T > 0, a number or a scalar tensor, which may change from step to step without a new trace.

z are logits, s the student, t the teacher, y the label, p^T = softmax(z / T), and p = p^1. Values and gradients stay
finite at logit gaps of 10^4: probabilities are added up by logsumexp, and never subtracted from 1.
"""

from typing import TypeAlias

from keras import KerasTensor, ops

Tensor: TypeAlias = KerasTensor

_MASKED_LOGIT = -1e30  # its probability is 0, and 0 times its logarithm is 0 where -inf would give NaN
# Nothing is divided by less than these deviations: at the first steps, a student that predicts the same for all
# images would give gradients so large that Adam remembers them for thousands of steps.
_SMALLEST_LOGIT_DEVIATION = 0.01
_SMALLEST_SHARE_OF_MEAN = 0.01  # of probabilities
_SMALLEST_VARIANCE = 1e-24  # where all of these are 0; its power of -3/2 fits into float32


def cross_entropy(*, student_logits: Tensor, labels: Tensor) -> Tensor:
    """CE(y, s) = -sum_i y_i log p_s,i at temperature 1.

    Args:
        labels: class numbers [B], or probabilities [B, C]. An unlabelled example (class number -1, or a row of
            zeros) has loss 0.
    """
    label_probs = as_label_probs(labels, classes=student_logits.shape[-1])
    return -ops.sum(label_probs * _log_probs(student_logits), axis=-1)


def as_label_probs(labels: Tensor, *, classes: int) -> Tensor:
    """Return class numbers [B], or probabilities [B, C], as float32 [B, C]; zeros for the class number -1."""
    return _float32(labels if len(labels.shape) == 2 else ops.one_hot(labels, classes))


def soft_cross_entropy(*, student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor) -> Tensor:
    """CE(p_t^T, p_s^T) = -sum_i p_t^T,i log p_s^T,i, the soft part of MicroExpNet's loss (Çuğu et al. 2017).

    Its gradient by z_s is (p_s^T - p_t^T) / T. Its smallest value is the teacher's entropy, not 0.
    https://arxiv.org/abs/1711.07011
    """
    teacher_probs = ops.softmax(_softened(_fixed(teacher_logits), temperature), axis=-1)
    return -ops.sum(teacher_probs * _log_probs(student_logits, temperature), axis=-1)


def soft_kl_divergence(*, student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor) -> Tensor:
    """T²·KL(p_t^T ‖ p_s^T), the soft part of knowledge distillation (Hinton et al. 2015, section 2).

    It has T² times the gradient of `soft_cross_entropy`, which so keeps its size at every T, and is 0 where both
    softened distributions agree. https://arxiv.org/abs/1503.02531
    """
    teacher_log_probs = _log_probs(_fixed(teacher_logits), temperature)
    return _float32(temperature**2) * _kl_divergence(teacher_log_probs, _log_probs(student_logits, temperature))


def standardised_kl_divergence(
    *, student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor
) -> Tensor:
    """T²·KL(p_t^T ‖ p_s^T) of z-scores: logits less their mean over the classes, divided by their deviation.

    The student learns the relations between the logits, and is free in their range: neither a constant added to a
    row nor a positive factor on it changes anything. Of two classes, only their order is left. The deviation is
    that of the paper, over C; the authors' code divides by C - 1. A row that deviates by less than 0.01 is
    divided by that.

    Sun et al. 2024, algorithms 1 and 2. https://arxiv.org/abs/2403.01427
    """
    return soft_kl_divergence(
        student_logits=_standardised(_float32(student_logits), axis=-1, smallest_deviation=_SMALLEST_LOGIT_DEVIATION),
        teacher_logits=_standardised(_fixed(teacher_logits), axis=-1, smallest_deviation=_SMALLEST_LOGIT_DEVIATION),
        temperature=temperature,
    )


def decoupled_kl_divergence(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    label_probs: Tensor,
    temperature: float | Tensor,
    alpha: float,
    beta: float,
) -> Tensor:
    """DKD: T²·(alpha·KL(b_t ‖ b_s) + beta·KL(n_t ‖ n_s)).

    b = (p^T_y, 1 - p^T_y) is the target class against all others; n is p^T over the others alone, renormalised.
    With alpha = 1 and beta = 1 - p_t^T,y this is Hinton's. Of two classes, n has one, and its part is 0.

    The target is the likeliest class of the label, of equals the first; where an example is unlabelled, that of the
    teacher. Both parts compare the student with the teacher alone, so they need no label to be true.

    Zhao et al. 2022, section 3. https://arxiv.org/abs/2203.08679
    """
    is_target = _is_target(label_probs, teacher_logits)
    teacher, student = _softened(_fixed(teacher_logits), temperature), _softened(student_logits, temperature)
    of_target = _kl_divergence(_target_log_probs(teacher, is_target), _target_log_probs(student, is_target))
    of_others = _kl_divergence(_other_log_probs(teacher, is_target), _other_log_probs(student, is_target))
    return _float32(temperature**2) * (alpha * of_target + beta * of_others)


def correlation_distance(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor,
    beta: float,
    gamma: float,
) -> Tensor:
    """DIST: T²·(beta·(1 - r over the classes) + gamma·(1 - r over the batch)), r the correlation of p_t^T, p_s^T.

    The first r (Pearson's) is that of an example's probabilities; of two classes only their order is left. The second
    is that of one class' probabilities over the examples of the batch, averaged over the classes. Every example gets
    this same mean, so that the mean over the batch is the published loss; sample weights weigh the first part alone,
    and to the second all examples of a batch count alike. A batch of one has the constant gamma·T² there.

    What deviates by less than a hundredth of its mean fades out. T² stands in the authors' code, not in the paper.
    Huang et al. 2022, section 3. https://arxiv.org/abs/2205.10536
    """
    teacher_probs = ops.softmax(_softened(_fixed(teacher_logits), temperature), axis=-1)
    student_probs = ops.softmax(_softened(student_logits, temperature), axis=-1)
    over_classes = 1.0 - _correlation(teacher_probs, student_probs, axis=-1)
    over_batch = 1.0 - ops.mean(_correlation(teacher_probs, student_probs, axis=0))
    return _float32(temperature**2) * (beta * over_classes + gamma * over_batch)


def normalised_distillation(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    label_probs: Tensor,
    temperature: float | Tensor,
    gamma: float,
) -> Tensor:
    """NKD: -p_t,y log p_s,y - gamma·T²·sum_i n_t,i log n_s,i over the classes i other than y.

    n is p^T without the target class, renormalised; the first part stays at T = 1. It pulls p_s,y to 1, so the
    smallest value is not where the student equals the teacher. Target and unlabelled examples: as for
    `decoupled_kl_divergence`, so that an unlabelled example learns the teacher's class as far as the teacher
    believes in it.

    Yang et al. 2023, section 3. https://arxiv.org/abs/2303.13005
    """
    is_target = _is_target(label_probs, teacher_logits)
    teacher, student = _fixed(teacher_logits), _float32(student_logits)
    of_target = ops.where(is_target, ops.softmax(teacher, axis=-1) * _log_probs(student), 0.0)
    others_t, others_s = (_other_log_probs(_softened(z, temperature), is_target) for z in (teacher, student))
    of_others = ops.exp(others_t) * others_s
    return -ops.sum(of_target + gamma * _float32(temperature**2) * of_others, axis=-1)


def transformed_teacher_matching(
    *, student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor, weighted: bool = False
) -> Tensor:
    """TTM: KL(p_t^T ‖ p_s), the softened teacher and the student as it is; WTTM weighs it by sum_i p_t,i^(1/T).

    The paper's exponent gamma is 1 / T: p_t raised to it and renormalised is p_t^T. The gradient by z_s is
    p_s - p_t^T, times the weight; it vanishes where z_s = z_t / T. The weight goes from 1 for a certain teacher to
    C^(1 - 1/T) for an undecided one.

    Zheng and Yang 2024, sections 3 and 4. https://arxiv.org/abs/2402.11148

    Args:
        weighted: WTTM.
    """
    divergence = _kl_divergence(_log_probs(_fixed(teacher_logits), temperature), _log_probs(student_logits))
    if not weighted:
        return divergence
    power_sum = ops.exp(ops.logsumexp(_softened(_log_probs(_fixed(teacher_logits)), temperature), axis=-1))
    return power_sum * divergence


def mean_squared_logits(*, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The mean over the classes of (z_s - z_t)².

    Half of it is what Hinton's loss comes to at a high T, for logits of mean 0. No other loss here makes the student
    match the teacher's mean, too: a constant added to a row of one of them changes the value.

    Ba and Caruana 2014, section 2 (half the sum over the classes), https://arxiv.org/abs/1312.6184;
    Kim et al. 2021 (the sum), https://arxiv.org/abs/2105.08919
    """
    return ops.mean(ops.square(_float32(student_logits) - _fixed(teacher_logits)), axis=-1)


def _float32(values: float | Tensor) -> Tensor:
    # Half precision has too few digits for a log-softmax over a wide range of logits.
    return ops.cast(values, "float32")


def _fixed(teacher_logits: Tensor) -> Tensor:
    return ops.stop_gradient(_float32(teacher_logits))


def _softened(logits: Tensor, temperature: float | Tensor) -> Tensor:
    return _float32(logits) / _float32(temperature)


def _log_probs(logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    return ops.log_softmax(_softened(logits, temperature), axis=-1)


def _kl_divergence(teacher_log_probs: Tensor, student_log_probs: Tensor) -> Tensor:
    return ops.sum(ops.exp(teacher_log_probs) * (teacher_log_probs - student_log_probs), axis=-1)


def _is_target(label_probs: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return bool [B, C], true at one class of a row: the likeliest of its label, or of its teacher without one."""
    labelled = ops.any(label_probs > 0, axis=-1, keepdims=True)
    likelihood = ops.where(labelled, _float32(label_probs), _float32(teacher_logits))
    return ops.one_hot(ops.argmax(likelihood, axis=-1), likelihood.shape[-1]) > 0


def _target_log_probs(logits: Tensor, is_target: Tensor) -> Tensor:
    """Return [B, 2]: log p of the target class and of all others together."""
    target_logit = ops.sum(ops.where(is_target, logits, 0.0), axis=-1)
    others_logit = ops.logsumexp(ops.where(is_target, _MASKED_LOGIT, logits), axis=-1)
    return ops.log_softmax(ops.stack([target_logit, others_logit], axis=-1), axis=-1)


def _other_log_probs(logits: Tensor, is_target: Tensor) -> Tensor:
    """Return [B, C]: log p of each class if the target class did not exist."""
    return ops.log_softmax(ops.where(is_target, _MASKED_LOGIT, logits), axis=-1)


def _correlation(teacher_probs: Tensor, student_probs: Tensor, *, axis: int) -> Tensor:
    teacher_scores, student_scores = (
        _standardised(
            probs, axis=axis, smallest_deviation=_SMALLEST_SHARE_OF_MEAN * _mean(ops.stop_gradient(probs), axis)
        )
        for probs in (teacher_probs, student_probs)
    )
    return ops.mean(teacher_scores * student_scores, axis=axis)


def _standardised(values: Tensor, *, axis: int, smallest_deviation: float | Tensor) -> Tensor:
    centred = values - _mean(values, axis)
    smallest_variance = ops.maximum(smallest_deviation**2, _SMALLEST_VARIANCE)
    return centred * ops.rsqrt(ops.maximum(_mean(ops.square(centred), axis), smallest_variance))


def _mean(values: Tensor, axis: int) -> Tensor:
    return ops.mean(values, axis=axis, keepdims=True)
