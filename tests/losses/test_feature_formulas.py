"""Every loss on features against float64 NumPy, the authors' code, central differences, and its invariants."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill.errors import InputError
from distill.losses.feature_losses import ANY_SHAPE, EMBEDDED, FEATURE_LOSSES, feature_loss_named
from distill.losses.feature_objective import FeatureObjective
from distill.losses.objective import Batch, DistillationObjective, as_objective

B = 6
every_loss = pytest.mark.parametrize("name", FEATURE_LOSSES)
COMPARED = tuple(name for name, row in FEATURE_LOSSES.items() if row.compares != EMBEDDED)


@pytest.fixture
def student(rng):
    return rng.normal(0, 2, (B, 4, 4, 3)).astype(np.float32)


@pytest.fixture
def teacher(rng):
    return rng.normal(1, 3, (B, 4, 4, 3)).astype(np.float32)


def value(name, student, teacher):
    if FEATURE_LOSSES[name].compares == EMBEDDED:
        student, teacher = (tf.reshape(each, (each.shape[0], -1)) for each in (student, teacher))
    return FEATURE_LOSSES[name].function(student_features=student, teacher_features=teacher)


# The authors' code, in NumPy and float64: the mean over the batch.


def normalised(rows, axis):
    """torch.nn.functional.normalize."""
    return rows / np.maximum(np.linalg.norm(rows, axis=axis, keepdims=True), 1e-12)


def smooth_l1(a, b):
    """torch.nn.functional.smooth_l1_loss."""
    d = np.abs(a - b)
    return np.where(d < 1, 0.5 * d**2, d - 0.5).mean()


def hint_of_repdistiller(f_s, f_t):
    """HintLoss: nn.MSELoss()(f_s, f_t)."""
    return ((f_s - f_t) ** 2).mean()


def at_loss(x, y):
    """szagoruyko/attention-transfer, utils.py: at_loss; x and y channels first."""

    def at(x):
        return normalised((x**2).mean(1).reshape(len(x), -1), axis=1)

    return ((at(x) - at(y)) ** 2).mean()


def pdist(e, eps=1e-12):
    """lenscloth/RKD, metric/utils.py."""
    e_square, prod = (e**2).sum(1), e @ e.T
    res = np.sqrt((e_square[:, None] + e_square[None] - 2 * prod).clip(min=eps))
    res[range(len(e)), range(len(e))] = 0
    return res


def rkd(student, teacher):
    """lenscloth/RKD, metric/loss.py: RkdDistance + 2 RKdAngle."""
    t_d, d = pdist(teacher), pdist(student)
    distance = smooth_l1(d / d[d > 0].mean(), t_d / t_d[t_d > 0].mean())
    angles = []
    for e in (student, teacher):
        norm_d = normalised(e[None] - e[:, None], axis=2)
        angles.append((norm_d @ norm_d.transpose(0, 2, 1)).ravel())
    return distance + 2 * smooth_l1(*angles)


def similarity_of_repdistiller(f_s, f_t):
    """distiller_zoo/SP.py: similarity_loss."""
    g_s, g_t = (normalised(f @ f.T, axis=1) for f in (f_s, f_t))
    return ((g_t - g_s) ** 2).sum() / len(f_s) ** 2


def in_batch_nce(student, teacher, nce_t=0.07):
    """HobbitLong/RepDistiller, crd, with the batch as both memory banks, and the softmax of HobbitLong/CMC.

    Embed: Normalize(Linear(f)). ContrastMemory: out_v2 = exp(bmm(memory_v1[idx], v2) / T), the bank of the student
    against the teacher, and out_v1 the other way round; idx[:, 0] is the image's own. NCESoftmaxLoss: the cross
    entropy of column 0. CRDLoss: s_loss + t_loss.
    """
    v1, v2 = (f / (f**2).sum(1, keepdims=True) ** 0.5 for f in (student, teacher))
    idx = np.array([[i, *(j for j in range(len(v1)) if j != i)] for i in range(len(v1))])
    losses = []
    for memory, anchor in ((v2, v1), (v1, v2)):
        out = np.exp(np.einsum("bkd,bd->bk", memory[idx], anchor) / nce_t)
        losses.append(-np.log(out[:, 0] / out.sum(1)).mean())
    return sum(losses)


AUTHORS = {
    "contrastive": lambda s, t: in_batch_nce(s.reshape(len(s), -1), t.reshape(len(t), -1)),
    "hint": hint_of_repdistiller,
    "attention": lambda s, t: at_loss(s.transpose(0, 3, 1, 2), t.transpose(0, 3, 1, 2)),
    "relational": lambda s, t: rkd(s.reshape(len(s), -1), t.reshape(len(t), -1)),
    "similarity": lambda s, t: similarity_of_repdistiller(s.reshape(len(s), -1), t.reshape(len(t), -1)),
}


@every_loss
def test_the_mean_over_the_batch_is_that_of_the_authors_code(name, student, teacher):
    found = np.asarray(value(name, student, teacher))
    assert found.shape == (B,)
    expected = AUTHORS[name](student.astype(np.float64), teacher.astype(np.float64))
    np.testing.assert_allclose(found.mean(dtype=np.float64), expected, rtol=2e-5)


# Each example's own value, from its definition.


def by_definition(name, student, teacher):
    if name == "hint":
        return [((s - t) ** 2).mean() for s, t in zip(student, teacher, strict=True)]
    if name == "attention":
        maps = [
            [(f**2).mean(-1) / np.sqrt(((f**2).mean(-1) ** 2).sum()) for f in pair]
            for pair in zip(student, teacher, strict=True)
        ]
        return [((s - t) ** 2).mean() for s, t in maps]
    s, t = (f.reshape(B, -1) for f in (student, teacher))
    if name == "similarity":
        rows = [[np.array([f[i] @ f[j] for j in range(B)]) for f in (s, t)] for i in range(B)]
        return [((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2).mean() for a, b in rows]
    if name == "contrastive":
        return [contrast(i, s, t) + contrast(i, t, s) for i in range(B)]
    return [relation(i, s, t) for i in range(B)]


def contrast(i, anchors, others):
    def power(j):
        a, b = anchors[i], others[j]
        return np.exp(a @ b / np.linalg.norm(a) / np.linalg.norm(b) / 0.07)

    return -np.log(power(i) / sum(power(j) for j in range(B)))


def relation(i, s, t):
    def huber(d):
        return 0.5 * d**2 if abs(d) < 1 else abs(d) - 0.5

    def mean_distance(f):
        return np.mean([np.linalg.norm(f[a] - f[b]) for a in range(B) for b in range(B) if a != b])

    def cosine(f, j, k):
        a, b = f[j] - f[i], f[k] - f[i]
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / norms if norms else 0

    distances = [
        huber(np.linalg.norm(s[i] - s[j]) / mean_distance(s) - np.linalg.norm(t[i] - t[j]) / mean_distance(t))
        for j in range(B)
    ]
    angles = [huber(cosine(s, j, k) - cosine(t, j, k)) for j in range(B) for k in range(B)]
    return np.mean(distances) + 2 * np.mean(angles)


@every_loss
def test_each_value_is_its_definition_in_float64(name, student, teacher):
    expected = by_definition(name, student.astype(np.float64), teacher.astype(np.float64))
    np.testing.assert_allclose(np.asarray(value(name, student, teacher)), expected, rtol=1e-4, atol=1e-6)


@every_loss
def test_gradients_are_central_differences_of_the_reference_and_none_reaches_the_teacher(name, student, teacher):
    s, t = tf.Variable(student), tf.Variable(teacher)
    with tf.GradientTape() as tape:
        total = tf.reduce_mean(value(name, s, t))
    gradient, of_teacher = tape.gradient(total, (s, t))
    assert (of_teacher is None) == (name in COMPARED)  # the teacher's embedding is trained, too
    exact, step = student.astype(np.float64), 1e-5
    for at in [(0, 0, 0, 0), (1, 3, 2, 1), (5, 1, 1, 2)]:
        moved = [exact.copy(), exact.copy()]
        moved[0][at] += step
        moved[1][at] -= step
        up, down = (AUTHORS[name](each, teacher.astype(np.float64)) for each in moved)
        np.testing.assert_allclose(gradient.numpy()[at], (up - down) / (2 * step), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", COMPARED)
def test_equal_features_have_no_loss(name, student):
    np.testing.assert_allclose(np.asarray(value(name, student, student)), 0, atol=1e-6)


def test_embeddings_that_tell_images_apart_have_no_contrastive_loss_and_equal_ones_that_of_chance():
    apart, equal = np.eye(B, dtype=np.float32), np.ones((B, B), np.float32)
    least = 2 * np.log1p((B - 1) * np.exp(-1 / 0.07))
    np.testing.assert_allclose(value("contrastive", 3 * apart, apart), least, atol=1e-6)
    np.testing.assert_allclose(value("contrastive", equal, apart), 2 * np.log(B), rtol=1e-6)


@every_loss
def test_nothing_is_nan_where_features_are_degenerate(name, student):
    for degenerate in (np.zeros_like(student), np.repeat(student[:1], B, axis=0), student[:1], 1e4 * student):
        s = tf.Variable(degenerate)
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(value(name, s, student[: len(degenerate)]))
        assert np.isfinite(total.numpy())
        assert np.isfinite(tape.gradient(total, s).numpy()).all()


@pytest.mark.parametrize("name", [name for name, row in FEATURE_LOSSES.items() if row.compares == ANY_SHAPE])
def test_what_compares_images_takes_features_of_any_two_shapes_and_scales(name, rng, student):
    vectors = rng.normal(size=(B, 11)).astype(np.float32)
    found = np.asarray(value(name, student, vectors))
    assert found.shape == (B,)
    np.testing.assert_allclose(np.asarray(value(name, 7 * student, 0.3 * vectors)), found, rtol=1e-3, atol=1e-6)


def test_relations_are_those_of_differences_though_they_come_from_inner_products(rng):
    """Far from zero, where inner products are large and differences small, and for images that are the same."""
    student, teacher = (rng.normal(30, 1, (B, 5, 5, 40)).astype(np.float32) for _ in range(2))
    student[3], teacher[4] = student[1], teacher[0]
    s, t = (f.astype(np.float64).reshape(B, -1) for f in (student, teacher))
    expected = [relation(i, s, t) for i in range(B)]
    np.testing.assert_allclose(value("relational", student, teacher), expected, rtol=2e-3)


@every_loss
def test_half_precision_is_computed_in_float32(name, student, teacher):
    half = [tf.cast(each, tf.bfloat16) for each in (student, teacher)]
    full = [tf.cast(each, tf.float32) for each in half]
    found = value(name, *half)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, value(name, *full))


# The objective around them


def outputs_of(student, teacher, rng):
    logits = rng.normal(size=(B, 3)).astype(np.float32)
    batch = Batch(
        None, np.eye(3, dtype=np.float32)[[0, 1, 2] * 2], {"logits": logits[::-1], "features/f@4": teacher}, None
    )
    return {"logits": logits, "conv": student}, batch


def built(objective, student, teacher):
    specs = {"conv": keras.KerasTensor((None, *student.shape[1:]))}
    objective.build(specs, {"features/f@4": keras.KerasTensor((None, *teacher.shape[1:]))})
    return objective


@pytest.mark.parametrize("logits", ["hinton", "dkd"])
@every_loss
def test_it_is_added_to_any_loss_on_logits_by_its_weight(name, logits, student, teacher, rng):
    inner = as_objective(logits)
    objective = built(FeatureObjective(inner, name, pairs={"conv": "f@4"}, weight=0.7), student, teacher)
    outputs, batch = outputs_of(student, teacher, rng)
    alone, parts = inner(outputs, batch, 0.0), objective(outputs, batch, 0.0)
    assert parts.keys() == alone.keys() | {name}
    np.testing.assert_allclose(parts["loss"], alone["loss"] + 0.7 * parts[name], rtol=1e-6)
    projected = [each.astype(np.float64) for each in (student, teacher)]
    weights = [[each.numpy().astype(np.float64) for each in layer.weights] for layer in objective.projectors]
    if name == "contrastive":
        projected = [each.mean((1, 2)) for each in projected]
    for number, (kernel, bias) in enumerate(weights):
        projected[number] = projected[number] @ kernel.reshape(kernel.shape[-2:]) + bias
    np.testing.assert_allclose(
        np.asarray(parts[name], np.float64), by_definition(name, *projected), rtol=1e-4, atol=1e-6
    )
    assert len(objective.layers) == {"hint": 1, "contrastive": 2}.get(name, 0)
    assert name != "contrastive" or projected[1].shape == (B, 128)
    assert objective.teacher_outputs == ("logits", "features/f@4")


@pytest.mark.parametrize(
    ("of_student", "of_teacher", "compared"),
    [
        ((8, 8, 5), (4, 4, 3), (4, 4, 3)),
        ((3, 3, 5), (6, 6, 2), (3, 3, 2)),
        ((4, 4, 5), (7,), (7,)),
        ((5,), (4, 4, 3), (3,)),
    ],
)
def test_features_meet_at_the_size_of_the_smaller_one(rng, of_student, of_teacher, compared):
    student, teacher = (rng.normal(size=(B, *shape)).astype(np.float32) for shape in (of_student, of_teacher))
    objective = built(FeatureObjective(as_objective("hinton"), "hint", pairs={"conv": "f@4"}), student, teacher)
    layer = objective.projectors[0]
    means = [
        each.mean((1, 2)) if len(compared) == 1 and each.ndim == 4 else in_blocks(each, compared)
        for each in (student.astype(np.float64), teacher.astype(np.float64))
    ]
    kernel, bias = (each.numpy() for each in layer.weights)
    expected = means[0] @ kernel.reshape(kernel.shape[-2:]) + bias - means[1]
    outputs, batch = outputs_of(student, teacher, rng)
    found = objective(outputs, batch, 0.0)["hint"]
    np.testing.assert_allclose(found, (expected.reshape(B, -1) ** 2).mean(1), rtol=1e-4)


def in_blocks(values, compared):
    if values.ndim == 2 or values.shape[1] == compared[0]:
        return values
    side, size = compared[0], values.shape[1] // compared[0]
    return values.reshape(B, side, size, side, size, -1).mean((2, 4))


def test_projectors_begin_alike_whatever_was_drawn_before(student, teacher):
    kernels = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        objective = built(FeatureObjective(as_objective("mse"), "hint", pairs={"conv": "f@4"}), student, teacher)
        kernels.append(objective.projectors[0].weights[0].numpy())
    np.testing.assert_array_equal(*kernels)


@pytest.mark.parametrize(
    ("loss", "how", "message"),
    [
        ("hnt", {}, r'unknown loss on features "hnt": did you mean hint\?'),
        ("hint", {"pairs": {}}, "none is named: give STUDENT_LAYER=TEACHER_FEATURE"),
        ("hint", {"weight": 0}, "the weight of hint must be above 0, received 0: try 1"),
        ("hint", {"options": {"a": 1}}, 'the loss "hint" has no options, received "a": omit it'),
        ("relational", {"options": {"angel": 1}}, 'no option "angel": did you mean angle'),
        ("relational", {"options": {"angle": -1}}, "must be 0 or more, received -1: try 2"),
        ("contrastive", {"options": {"temperature": 0}}, "must be above 0, received 0: try 0.07"),
    ],
)
def test_what_cannot_be_is_refused(loss, how, message):
    with pytest.raises(InputError, match=message):
        FeatureObjective(as_objective("hinton"), loss, **{"pairs": {"conv": "f"}, **how})


@pytest.mark.parametrize(
    ("loss", "of_student", "of_teacher", "message"),
    [
        ("attention", (4, 4, 2), (3,), r"compares maps, received conv \[4, 4, 2\] of the student and f@4 \[3\]"),
        ("hint", (4, 2), (3,), r"compares vectors or maps, received conv \[4, 2\]"),
        (
            "contrastive",
            (5,),
            (4, 2),
            r"compares vectors or maps, received conv \[5\] of the student and f@4 \[4, 2\]",
        ),
        ("similarity", (None, None, 2), (3,), "needs features of a fixed size"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(loss, of_student, of_teacher, message):
    objective = FeatureObjective(as_objective("hinton"), loss, pairs={"conv": "f@4"})
    specs = {"conv": keras.KerasTensor((None, *of_student))}
    with pytest.raises(InputError, match=message):
        objective.build(specs, {"features/f@4": keras.KerasTensor((None, *of_teacher))})


def test_it_says_what_it_is_and_its_usual_weight():
    inner = DistillationObjective(loss=as_objective("hinton").loss)
    objective = FeatureObjective(inner, "relational", pairs={"a": "b@2"})
    assert objective.weight == feature_loss_named("relational").weight
    assert objective.formula == f"{inner.formula} + 25·relational: (1·distances + 2·angles), s=a t=b@2"
    assert objective.describe() == {
        **inner.describe(),
        "formula": objective.formula,
        "features": {
            "loss": "relational",
            "weight": 25.0,
            "options": {"distance": 1.0, "angle": 2.0},
            "pairs": {"a": "b@2"},
        },
    }
