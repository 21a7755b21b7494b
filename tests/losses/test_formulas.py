"""Every soft loss against float64 NumPy, central differences, Keras, closed forms, and its invariants."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill.losses.formulas import (
    cross_entropy,
    decoupled_kl_divergence,
    mean_squared_logits,
    soft_cross_entropy,
    soft_kl_divergence,
    transformed_teacher_matching,
)
from distill.losses.soft_losses import SOFT_LOSSES

B, C, T = 6, 7, 2.5
OPTIONS = {"alpha": 0.7, "beta": 3.0, "gamma": 1.3}  # nobody's default
every_loss = pytest.mark.parametrize("name", SOFT_LOSSES)
# Where the student equals the teacher, these still have a gradient: NKD pulls the target to 1, TTM wants z_t / T.
NOT_AT_REST_AT_THE_TEACHER = {"nkd", "ttm", "wttm"}
SEE_A_CONSTANT = {"mse"}


@pytest.fixture
def student_logits(rng):
    return rng.normal(0, 3, (B, C)).astype(np.float32)


@pytest.fixture
def teacher_logits(rng):
    return rng.normal(1, 5, (B, C)).astype(np.float32)


@pytest.fixture
def label_probs(rng):
    """Numbers as one-hot rows, one soft label, one unlabelled example."""
    probs = np.eye(C, dtype=np.float32)[rng.integers(0, C, B)]
    probs[4] = rng.dirichlet(np.ones(C))
    probs[5] = 0
    return probs


def soft_loss(name, student_logits, teacher_logits, label_probs, temperature=T):
    row = SOFT_LOSSES[name]
    arguments = {option: OPTIONS[option] for option in row.options}
    if row.temperature is not None:
        arguments["temperature"] = temperature
    if row.needs_labels:
        arguments["label_probs"] = label_probs
    return row.function(student_logits=student_logits, teacher_logits=teacher_logits, **arguments)


def gradients(name, student_logits, teacher_logits, label_probs):
    """Of the sum of the values, by the student's and by the teacher's logits."""
    student, teacher = tf.Variable(student_logits), tf.Variable(teacher_logits)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(soft_loss(name, student, teacher, label_probs))
    return tape.gradient(total, (student, teacher))


# The papers' formulas in float64, from probabilities, as nobody would compute them in float32.


def softmax(logits, temperature=1.0):
    powers = np.exp(np.asarray(logits, np.float64) / temperature)
    return powers / powers.sum(axis=-1, keepdims=True)


def kl(p, q):
    return np.sum(p * np.log(p / q), axis=-1)


def targets(label_probs, teacher_logits):
    return [
        np.argmax(row if row.any() else of_teacher)
        for row, of_teacher in zip(label_probs, teacher_logits, strict=True)
    ]


def without(probs, classes, *, renormalised=True):
    """[B, C - 1]: probabilities of all but one class of each row, or what they were if that did not exist."""
    others = np.stack([np.delete(row, at) for row, at in zip(probs, classes, strict=True)])
    return others / others.sum(axis=1, keepdims=True) if renormalised else others


def dkd(s, t, label_probs):
    y, rows = targets(label_probs, t), range(len(t))
    p_s, p_t = softmax(s, T), softmax(t, T)
    b_s, b_t = (np.stack([p[rows, y], without(p, y, renormalised=False).sum(axis=1)], axis=1) for p in (p_s, p_t))
    return T**2 * (0.7 * kl(b_t, b_s) + 3.0 * kl(without(p_t, y), without(p_s, y)))


def dist(s, t, label_probs):
    p_s, p_t = softmax(s, T), softmax(t, T)
    over_classes = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p_s, p_t, strict=True)]
    over_batch = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p_s.T, p_t.T, strict=True)]
    return T**2 * (3.0 * np.array(over_classes) + 1.3 * np.mean(over_batch))


def nkd(s, t, label_probs):
    y, rows = targets(label_probs, t), range(len(t))
    others = np.sum(without(softmax(t, T), y) * np.log(without(softmax(s, T), y)), axis=1)
    return -softmax(t)[rows, y] * np.log(softmax(s)[rows, y]) - 1.3 * T**2 * others


def power_transform(t):
    powers = softmax(t) ** (1 / T)
    return powers / powers.sum(axis=1, keepdims=True), powers.sum(axis=1)


def z_scores(z):
    return (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True)


REFERENCES = {
    "microexpnet": lambda s, t, y: -np.sum(softmax(t, T) * np.log(softmax(s, T)), axis=1),
    "hinton": lambda s, t, y: T**2 * kl(softmax(t, T), softmax(s, T)),
    "standardised": lambda s, t, y: T**2 * kl(softmax(z_scores(t), T), softmax(z_scores(s), T)),
    "dkd": dkd,
    "dist": dist,
    "nkd": nkd,
    "ttm": lambda s, t, y: kl(power_transform(t)[0], softmax(s)),
    "wttm": lambda s, t, y: power_transform(t)[1] * kl(power_transform(t)[0], softmax(s)),
    "mse": lambda s, t, y: np.mean((s - t) ** 2, axis=1),
}


def reference(name, student_logits, teacher_logits, label_probs):
    return REFERENCES[name](student_logits.astype(np.float64), teacher_logits.astype(np.float64), label_probs)


def reference_gradient(name, student_logits, teacher_logits, label_probs, step=1e-5):
    """Central differences, entry by entry: in DIST, a logit moves the values of other examples, too."""
    gradient = np.zeros((B, C))
    for at in np.ndindex(B, C):
        moved = np.zeros((B, C))
        moved[at] = step
        up, down = (reference(name, student_logits + way * moved, teacher_logits, label_probs) for way in (1, -1))
        gradient[at] = (up - down).sum() / (2 * step)
    return gradient


@every_loss
def test_equals_float64_reference(name, student_logits, teacher_logits, label_probs):
    actual = soft_loss(name, student_logits, teacher_logits, label_probs)
    assert actual.shape == (B,)
    assert actual.dtype == "float32"
    expected = reference(name, student_logits, teacher_logits, label_probs)
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-6)


@every_loss
def test_gradient_equals_central_differences(name, student_logits, teacher_logits, label_probs):
    actual, _ = gradients(name, student_logits, teacher_logits, label_probs)
    expected = reference_gradient(name, student_logits, teacher_logits, label_probs)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-5)


@every_loss
def test_no_gradient_reaches_the_teacher(name, student_logits, teacher_logits, label_probs):
    of_student, of_teacher = gradients(name, student_logits, teacher_logits, label_probs)
    assert np.abs(of_student).max() > 1e-3
    assert of_teacher is None


@every_loss
def test_rests_at_the_teacher_unless_its_table_row_says_otherwise(name, teacher_logits, label_probs):
    gradient, _ = gradients(name, teacher_logits, teacher_logits, label_probs)
    at_rest = np.abs(gradient).max() < 1e-4
    assert at_rest == (name not in NOT_AT_REST_AT_THE_TEACHER)
    if at_rest and name != "microexpnet":  # whose smallest value is the teacher's entropy
        np.testing.assert_allclose(soft_loss(name, teacher_logits, teacher_logits, label_probs), 0, atol=1e-5)


@every_loss
def test_a_constant_added_to_a_row_changes_nothing_but_mse(name, student_logits, teacher_logits, label_probs, rng):
    shift = rng.normal(0, 5, (B, 1)).astype(np.float32)
    before = soft_loss(name, student_logits, teacher_logits, label_probs)
    after = soft_loss(name, student_logits + shift, teacher_logits - shift, label_probs)
    assert np.allclose(before, after, rtol=1e-4, atol=1e-5) == (name not in SEE_A_CONSTANT)


@every_loss
def test_permuting_classes_on_all_sides_changes_nothing(name, student_logits, teacher_logits, label_probs, rng):
    order = rng.permutation(C)
    permuted = soft_loss(name, *(each[:, order] for each in (student_logits, teacher_logits, label_probs)))
    np.testing.assert_allclose(permuted, soft_loss(name, student_logits, teacher_logits, label_probs), rtol=1e-5)


@every_loss
def test_doubling_the_batch_leaves_every_value(name, student_logits, teacher_logits, label_probs):
    once = soft_loss(name, student_logits, teacher_logits, label_probs)
    twice = soft_loss(name, *(np.tile(each, (2, 1)) for each in (student_logits, teacher_logits, label_probs)))
    np.testing.assert_allclose(twice, np.tile(once, 2), rtol=1e-5, atol=2e-6)  # sums of a batch are rounded


@pytest.mark.parametrize("name", sorted(SOFT_LOSSES.keys() - {"dist", "mse"}))  # these two are symmetric
def test_teacher_and_student_are_not_swapped(name, student_logits, teacher_logits, label_probs):
    straight = soft_loss(name, student_logits, teacher_logits, label_probs)
    assert not np.allclose(straight, soft_loss(name, teacher_logits, student_logits, label_probs), rtol=1e-2)


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_extreme_logits_stay_finite(name, dtype):
    rows = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [0, 0, 0], [1e4, 1e4, 1e4], [1e4, 0, 1e4]])
    pairs = [(s, t, y) for s in rows for t in rows for y in (*np.eye(3), np.zeros(3))]
    student, teacher, labels = (np.array(each) for each in zip(*pairs, strict=True))
    cases = [slice(None), slice(3, 4), np.s_[8:16]]  # all, one example alone, a student that says the same of all
    for case in cases:
        _assert_finite(name, *(tf.cast(each[case], dtype) for each in (student, teacher)), labels[case])
        _assert_finite(name, *(tf.cast(each[case, :2], dtype) for each in (student, teacher)), labels[case, :2])


def _assert_finite(name, student, teacher, labels):
    gradient, _ = gradients(name, student, teacher, labels)
    assert np.isfinite(soft_loss(name, student, teacher, labels)).all()
    assert np.isfinite(np.asarray(gradient, np.float32)).all()


@pytest.mark.parametrize(
    "name", sorted(SOFT_LOSSES.keys() - {"dist"})
)  # to which certain probabilities are constants
def test_networks_that_are_certain_keep_their_digits(name, rng):
    """A mass of 10^-26 next to the target is 0 as 1 - p, and its logarithm would be lost."""
    student_logits, teacher_logits = rng.normal(0, 2, (2, B, C)).astype(np.float32)
    student_logits[:, 2] += 150
    teacher_logits[:, 3] += 150
    label_probs = np.eye(C, dtype=np.float32)[[2, 3, 2, 3, 0, 1]]
    expected = reference(name, student_logits, teacher_logits, label_probs)
    np.testing.assert_allclose(soft_loss(name, student_logits, teacher_logits, label_probs), expected, rtol=1e-5)
    gradient, _ = gradients(name, student_logits, teacher_logits, label_probs)
    expected = reference_gradient(name, student_logits, teacher_logits, label_probs, step=1e-3)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


@every_loss
def test_a_temperature_may_be_a_tensor_and_change_without_a_new_trace(
    name, student_logits, teacher_logits, label_probs
):
    traces = []

    @tf.function
    def compiled(temperature):
        traces.append(temperature)
        return soft_loss(name, student_logits, teacher_logits, label_probs, temperature)

    for temperature in (1.0, 2.5, 8.0):
        expected = soft_loss(name, student_logits, teacher_logits, label_probs, temperature)
        np.testing.assert_allclose(compiled(tf.constant(temperature)), expected, rtol=1e-5, atol=1e-6)
    assert len(traces) == 1


def test_cross_entropy_equals_keras(student_logits, rng):
    labels, soft = rng.integers(0, C, B), rng.dirichlet(np.ones(C), B).astype(np.float32)
    of_numbers = keras.losses.sparse_categorical_crossentropy(labels, student_logits, from_logits=True)
    of_soft = keras.losses.categorical_crossentropy(soft, student_logits, from_logits=True)
    np.testing.assert_allclose(cross_entropy(student_logits=student_logits, labels=labels), of_numbers, rtol=1e-6)
    np.testing.assert_allclose(cross_entropy(student_logits=student_logits, labels=soft), of_soft, rtol=1e-5)
    np.testing.assert_array_equal(
        cross_entropy(student_logits=student_logits, labels=np.eye(C, dtype=np.float32)[labels]),
        cross_entropy(student_logits=student_logits, labels=labels),
    )


def test_unlabelled_examples_have_no_cross_entropy(student_logits):
    assert not cross_entropy(student_logits=student_logits, labels=np.full(B, -1)).numpy().any()
    assert not cross_entropy(student_logits=student_logits, labels=np.zeros((B, C), np.float32)).numpy().any()


def keras_correlation(a, b):
    """Pearson's over the last axis; Keras' cosine similarity is a loss, and negative."""
    return -keras.losses.cosine_similarity(a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True))


def by_keras(name, s, t):
    p = {
        temperature: [keras.ops.convert_to_numpy(keras.ops.softmax(z / temperature)) for z in (t, s)]
        for temperature in (1, T)
    }
    if name == "microexpnet":
        return keras.losses.categorical_crossentropy(p[T][0], s / T, from_logits=True)
    if name == "standardised":
        normalise = keras.layers.LayerNormalization(epsilon=1e-9, center=False, scale=False)
        return T**2 * keras.losses.kl_divergence(*(keras.ops.softmax(normalise(z) / T) for z in (t, s)))
    if name == "dist":
        over_batch = np.mean(1 - keras_correlation(p[T][0].T, p[T][1].T))
        return T**2 * (3.0 * (1 - keras_correlation(*p[T])) + 1.3 * over_batch)
    return {
        "hinton": lambda: T**2 * keras.losses.kl_divergence(*p[T]),
        "ttm": lambda: keras.losses.kl_divergence(p[T][0], p[1][1]),
        "mse": lambda: keras.losses.mean_squared_error(t, s),
    }[name]()


@pytest.mark.parametrize("name", ["microexpnet", "hinton", "standardised", "dist", "ttm", "mse"])
def test_equals_keras_over_examples_not_classes(name, rng):
    s, t = rng.normal(0, 2, (2, B, C)).astype(np.float32)  # small enough for the clipping of Keras' divergence
    np.testing.assert_allclose(soft_loss(name, s, t, None), by_keras(name, s, t), rtol=1e-4)


@pytest.mark.parametrize(("function", "factor"), [(soft_cross_entropy, 1), (soft_kl_divergence, 16)])
def test_soft_gradient_has_its_closed_form_with_and_without_t_squared(
    student_logits, teacher_logits, function, factor
):
    expected = (softmax(student_logits, 4.0) - softmax(teacher_logits, 4.0)) / 4.0 * factor
    student = tf.Variable(student_logits)
    with tf.GradientTape() as tape:
        values = function(student_logits=student, teacher_logits=teacher_logits, temperature=4.0)
    np.testing.assert_allclose(tape.gradient(values, student), expected, atol=1e-5)


def test_gradients_of_matching_have_their_closed_forms(student_logits, teacher_logits):
    target, power_sum = power_transform(teacher_logits)
    of_ttm = softmax(student_logits) - target  # Zheng and Yang 2024, equation 20
    of_mse = 2 / C * (student_logits - teacher_logits)
    for name, expected in (("ttm", of_ttm), ("wttm", power_sum[:, None] * of_ttm), ("mse", of_mse)):
        np.testing.assert_allclose(gradients(name, student_logits, teacher_logits, None)[0], expected, atol=1e-5)
    for name in ("ttm", "wttm"):
        np.testing.assert_allclose(gradients(name, teacher_logits / T, teacher_logits, None)[0], 0, atol=1e-6)


def test_dkd_with_the_teachers_doubt_as_beta_is_hintons(student_logits, teacher_logits, label_probs):
    """Zhao et al. 2022: KD = TCKD + (1 - p_t,y)·NCKD."""
    y = targets(label_probs, teacher_logits)
    doubt = (1 - softmax(teacher_logits, 4.0)[range(B), y]).astype(np.float32)
    logits = {"student_logits": student_logits, "teacher_logits": teacher_logits, "temperature": 4.0}
    decoupled = decoupled_kl_divergence(**logits, label_probs=label_probs, alpha=1.0, beta=doubt)
    np.testing.assert_allclose(decoupled, soft_kl_divergence(**logits), rtol=1e-5)


def test_three_classes_by_hand():
    # p_t = (1/2, 1/4, 1/4), p_s = (1/4, 1/4, 1/2), y = 0, T = 1.
    # b_t = (1/2, 1/2), b_s = (1/4, 3/4): KL = ln(2)/2 + ln(2/3)/2     = 0.143841
    # n_t = (1/2, 1/2), n_s = (1/3, 2/3): KL = ln(3/2)/2 + ln(3/4)/2   = 0.058892; CE = ln(3)/2 + ln(3/2)/2 = 0.752039
    # DKD = 0.7·0.143841 + 3·0.058892 = 0.277363; NKD = ln(4)/2 + 1.3·0.752039 = 1.670798
    teacher, student = np.log([[[2.0, 1, 1]], [[1, 1, 2]]]).astype(np.float32)
    label = np.array([[1.0, 0, 0]])
    assert float(soft_loss("dkd", student, teacher, label, 1.0)[0]) == pytest.approx(0.277363, abs=2e-6)
    assert float(soft_loss("nkd", student, teacher, label, 1.0)[0]) == pytest.approx(1.670798, abs=2e-6)


def test_two_classes_leave_dkd_its_target_part_and_nkd_its_own(rng):
    s, t = rng.normal(0, 3, (2, B, 2)).astype(np.float32)
    label = np.eye(2)[rng.integers(0, 2, B)]
    np.testing.assert_allclose(
        soft_loss("dkd", s, t, label), 0.7 * T**2 * kl(softmax(t, T), softmax(s, T)), rtol=1e-4
    )
    y = label.argmax(axis=1)
    of_target = -softmax(t)[range(B), y] * np.log(softmax(s)[range(B), y])
    np.testing.assert_allclose(soft_loss("nkd", s, t, label), of_target, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name, row in SOFT_LOSSES.items() if row.needs_labels])
def test_the_target_is_the_likeliest_of_the_label_or_of_the_teacher_where_there_is_none(
    name, student_logits, teacher_logits, rng
):
    of_teacher = np.eye(C)[teacher_logits.argmax(axis=1)]
    unlabelled = soft_loss(name, student_logits, teacher_logits, np.zeros((B, C)))
    np.testing.assert_array_equal(unlabelled, soft_loss(name, student_logits, teacher_logits, of_teacher))
    soft = rng.dirichlet(np.ones(C), B)
    hard = np.eye(C)[soft.argmax(axis=1)]
    actual = soft_loss(name, student_logits, teacher_logits, soft)
    np.testing.assert_array_equal(actual, soft_loss(name, student_logits, teacher_logits, hard))
    assert not np.allclose(actual, unlabelled)


def test_a_positive_factor_on_a_row_changes_nothing_where_logits_are_standardised(
    student_logits, teacher_logits, rng
):
    factor = rng.uniform(0.2, 5, (B, 1)).astype(np.float32)
    before = soft_loss("standardised", student_logits, teacher_logits, None)
    after = soft_loss("standardised", factor * student_logits, teacher_logits / factor, None)
    np.testing.assert_allclose(after, before, rtol=1e-4)


def test_dist_over_one_example_has_no_relations_to_learn(student_logits, teacher_logits):
    alone = soft_loss("dist", student_logits[:1], teacher_logits[:1], None)
    over_classes = 1 - np.corrcoef(softmax(student_logits[0], T), softmax(teacher_logits[0], T))[0, 1]
    assert float(alone[0]) == pytest.approx(T**2 * (3.0 * over_classes + 1.3), rel=1e-5)


def test_ttm_is_kd_less_the_students_renyi_entropy(student_logits, teacher_logits):
    """Zheng and Yang 2024, equation 15: D(p_T ‖ q) = T·D(p_T ‖ q_T) - (T - 1)·H_1/T(q) + (T - 1)·H(p_T)."""
    p_t, q_t, q = softmax(teacher_logits, T), softmax(student_logits, T), softmax(student_logits)
    renyi = np.log(np.sum(q ** (1 / T), axis=1)) / (1 - 1 / T)
    shannon = -np.sum(p_t * np.log(p_t), axis=1)
    expected = T * kl(p_t, q_t) - (T - 1) * renyi + (T - 1) * shannon
    np.testing.assert_allclose(soft_loss("ttm", student_logits, teacher_logits, None), expected, rtol=1e-5)


def test_wttm_weighs_a_certain_teacher_by_1_and_an_undecided_one_by_the_most(student_logits):
    for teacher, weight in (([100.0] + [0.0] * (C - 1), 1.0), ([3.0] * C, C ** (1 - 1 / T))):
        arguments = {"student_logits": student_logits, "teacher_logits": np.float32([teacher] * B), "temperature": T}
        ratio = transformed_teacher_matching(**arguments, weighted=True) / transformed_teacher_matching(**arguments)
        np.testing.assert_allclose(ratio, weight, rtol=1e-5)


def test_hintons_loss_comes_to_half_the_squared_logits_of_mean_0_at_a_high_temperature(rng):
    """Hinton et al. 2015, section 2.1."""
    s, t = (z - z.mean(axis=1, keepdims=True) for z in rng.normal(0, 1, (2, B, C)).astype(np.float32))
    half = mean_squared_logits(student_logits=s, teacher_logits=t) / 2
    np.testing.assert_allclose(soft_loss("hinton", s, t, None, 50.0), half, rtol=0.03)
