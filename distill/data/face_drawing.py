"""Paint synthetic faces, many at once, on a coordinate grid.

The painting uses only + - * / and the square root in float32, which IEEE 754 rounds alike everywhere: an
image has the same bytes, hence the same content hash, on every machine.
"""

from functools import reduce
from types import SimpleNamespace

import numpy as np


class _Faces(SimpleNamespace):
    """B faces under the brush: parameters [B, 1, 1] and grids [B, height, width], all float32.

    `x`, `y` are the coordinates -1..1 of the picture, `u`, `v` those of the posed face, `head_u` is `u`
    before the head turns; `a` is |u|, which draws both halves of a face at once; `tone` is the picture.
    """

    def paint(self, depth, tone, opacity=1.0, blur=1.0):
        """Lay `tone` over a shape, given each pixel's depth inside it; its edge is `blur` pixels soft."""
        cover = depth * (1 / (blur * self.pixel))
        cover += 0.5
        np.clip(cover, 0, 1, out=cover)
        cover *= opacity
        change = tone - self.tone
        change *= cover
        self.tone += change

    def within(self, top, bottom, side):
        """Return the same faces cropped to this part, |u| < side, of all of them; `tone` is shared."""
        edge = 2 * self.pixel
        near = (self.v > top - edge) & (self.v < bottom + edge) & (self.a < side + edge)
        rows, columns = (np.flatnonzero(near.any(axes)) for axes in ((0, 2), (0, 1)))
        if not len(rows):
            rows = columns = np.array([0])
        crop = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return _Faces(**{n: grid if grid.shape[1] == 1 else grid[crop] for n, grid in vars(self).items()})

    def some(self, chosen, feature):
        """Draw a feature on the faces of which `chosen` is true."""
        chosen = chosen[:, 0, 0]
        faces = _Faces(**{name: value[chosen] for name, value in vars(self).items()})
        feature(faces)
        self.tone[chosen] = faces.tone


def paint_faces(drawn: dict[str, np.ndarray], bits: np.ndarray, size: int, occlusion: float) -> np.ndarray:
    """Return the pictures, uint8 [B, size, size]; `bits` become the noise of their pixels."""
    faces = _Faces(**{name: values.astype(np.float32)[:, None, None] for name, values in drawn.items()})
    _set_up(faces, size)
    _head(faces)
    _nose(faces.within(-0.25, 0.40, 0.25))
    upper = faces.within(-0.65, 0.15, 0.60)
    _eyes(upper)
    _brows(upper)
    _mouth(faces.within(0.05, 1.0, 0.60))
    upper.some(faces.glasses > 0.86, _glasses)
    _light(faces)
    covered = faces.cover < occlusion
    faces.some(covered & (faces.hand < 0.5), _hand)
    faces.some(covered & (faces.hand >= 0.5), _patch)
    return _sensed(faces, bits)


def _set_up(f, size):
    axis = (2 * np.arange(size, dtype=np.float32) + 1) / np.float32(size) - 1
    square = (len(f.roll), size, size)
    f.x, f.y = np.broadcast_to(axis, square), np.broadcast_to(axis[:, None], square)
    f.pixel = np.full_like(f.roll, 2 / size)
    # The roll is the tangent of half the angle, which gives sine and cosine without a library function.
    sin, cos = 2 * f.roll / (1 + f.roll * f.roll), (1 - f.roll * f.roll) / (1 + f.roll * f.roll)
    x, y = (f.x - f.shift_x) * (0.84 + f.zoom), (f.y - f.shift_y) * (0.84 + f.zoom)
    f.head_u = cos * x + sin * y
    # A head that turns shows more of one half: the features move, and the other half is squeezed.
    u = f.head_u - 0.35 * f.yaw
    f.u = u + f.yaw * np.abs(u)
    f.v = cos * y - sin * x + f.skew * f.u
    f.a = np.abs(f.u)
    f.tone = f.backdrop + f.backdrop_x * f.x + 0 * f.y


def _ellipse(du, dv, width, height):
    """Depth inside an ellipse, from the offsets to its centre."""
    du, dv = du / width, dv / height
    du *= du
    dv *= dv
    du += dv
    return (1 - np.sqrt(du, out=du)) * np.minimum(width, height)


def _stroke(u, v, start, end, bulge, half):
    """Depth inside a parabola, 2 `half` thick, from (u, v) `start` to `end`, `bulge` off the straight line."""
    (u0, v0), (u1, v1) = start, end
    reach = (u1 - u0) / 2
    s = u - (u0 + u1) / 2
    off = v - ((v0 + v1) / 2 + bulge)
    off -= s * ((v1 - v0) / (u1 - u0) - bulge / (reach * reach) * s)
    np.abs(off, out=off)
    np.abs(s, out=s)
    return np.minimum(half - off, reach - s)


def _all(*depths):
    """Depth inside all of several shapes."""
    return reduce(np.minimum, depths)


def _head(f):
    below = np.maximum(f.v, 0)
    side = np.abs(f.head_u)
    width = f.face_width * (1 - f.jaw_taper * (below * below))
    head = _ellipse(f.head_u, f.v - 0.10 * f.jaw_drop * below, width, f.face_height)
    # Below the middle of the head, hair hangs straight.
    height = f.face_height + 0.08 + 0.5 * f.hair_width
    hair = _ellipse(f.head_u, np.minimum(f.v, 0), f.face_width + f.hair_width, height)
    has_hair = (f.bald > 0.12).astype(np.float32)
    neck = _all(0.36 - side, f.v - 0.5)
    f.paint(neck, 0.72 * f.skin)
    f.paint(_all(hair, f.hair_length - f.v), f.hair, has_hair)
    ear = _ellipse(side - f.face_width, f.v - f.eye_y - 0.08, 0.07, 0.15)
    f.paint(ear, 0.85 * f.skin, (f.hair_length < 0).astype(np.float32))
    edge = side / width
    f.paint(head, f.skin * (1.04 - 0.22 * edge * edge))
    part = f.head_u - f.parting
    fringe = _all(np.maximum(head, hair), f.hairline + 0.35 * part * part - f.v)
    f.paint(fringe, f.hair, has_hair)
    cheek = _ellipse(f.a - f.eye_x - 0.04, f.v - f.eye_y - 0.24 + 0.04 * f.cheek, 0.15, 0.09)
    f.paint(cheek, 1.12 * f.skin, 0.25 + 0.4 * f.cheek, blur=3)
    jaw = _all(head, f.v - f.mouth_y + 0.14 + 0.12 * f.a) - 0.05
    f.paint(jaw, 0.5 * f.hair + 0.25 * f.skin, np.clip(f.beard, 0, 1), blur=6)


def _nose(f):
    tip = f.eye_y + f.nose_length - 0.03 * f.nose_wrinkle
    wing = f.nose_width * (1 + 0.15 * f.nose_wrinkle + 0.15 * f.corner_pull)
    shade = 0.6 * f.skin
    ridge = _stroke(f.v, f.u, (f.eye_y, 0.05), (tip - 0.04, 0.08), -0.02, 0.02)
    f.paint(ridge, shade, 0.3, blur=2)
    f.paint(_stroke(f.u, f.v, (-wing, tip), (wing, tip), 0.035, 0.014), shade, 0.6)
    nostril = _ellipse(f.a - 0.55 * wing, f.v - tip - 0.01, 0.028, 0.018)
    f.paint(nostril, 0.25 * f.skin, 0.8)
    v = f.eye_y + 0.05
    wrinkle = _stroke(f.u, f.v, (-0.09, v), (0.09, v), -0.03, 0.016)
    f.paint(wrinkle, shade, 0.8 * np.minimum(f.nose_wrinkle, 1))


def _eyes(f):
    du = f.a - f.eye_x
    dv = f.v - f.eye_y - f.eye_slant * du
    squint = 0.45 * f.lid_tight + 0.15 * f.cheek + 0.25 * f.nose_wrinkle
    up = f.eye_open * (1 + 0.75 * f.lid_raise - squint)
    down = f.eye_open * (0.75 + 0.2 * f.lid_raise - 0.4 * f.lid_tight - 0.5 * f.cheek)
    bow = 1 - (du / f.eye_width) * (du / f.eye_width)
    below_upper_lid, above_lower_lid = dv + up * bow, down * bow - dv
    between_corners = f.eye_width - np.abs(du)
    opening = _all(below_upper_lid, above_lower_lid, between_corners)
    shade = 0.62 * f.skin
    f.paint(_ellipse(du, dv + 0.03, 1.5 * f.eye_width, 0.14), shade, 0.3, blur=4)
    f.paint(opening, 0.45 + 0.5 * f.skin, 0.95)
    iris = _ellipse(np.abs(f.u - f.gaze) - f.eye_x, dv, 0.068, 0.068)
    f.paint(_all(iris, opening), f.iris)
    f.paint(_all(0.017 - np.abs(below_upper_lid), between_corners), 0.12 * f.skin, 0.8)
    bag = _all(0.012 - np.abs(above_lower_lid + 0.05), between_corners)
    f.paint(bag, shade, 0.2 + 0.6 * np.minimum(np.maximum(f.cheek, f.lid_tight), 1))


def _brows(f):
    rest = f.eye_y + f.brow_y
    inner = rest - 0.12 * f.inner_brow + 0.11 * f.brow_lower + 0.02 * f.nose_wrinkle
    outer = rest + f.brow_slope - 0.12 * f.outer_brow + 0.02 * f.brow_lower
    start, end = (0.12 - 0.04 * f.brow_lower, inner), (f.eye_x + f.eye_width + 0.02, outer)
    bulge = -0.035 + 0.03 * f.inner_brow - 0.03 * f.outer_brow + 0.01 * f.brow_lower
    brow = _stroke(f.a, f.v, start, end, bulge, f.brow_half)
    f.paint(brow, f.brow_tone * np.minimum(f.hair + 0.1, f.skin), 0.9)
    shade = 0.62 * f.skin
    frown = _stroke(f.v, f.a, (inner - 0.10, 0.04), (inner + 0.04, 0.035), 0.01, 0.012)
    f.paint(frown, shade, 0.75 * np.minimum(f.brow_lower, 1))
    wide, v = 0.16 + 0.18 * f.outer_brow, inner - 0.11
    wrinkle = _stroke(f.u, f.v, (-wide, v), (wide, v), -0.02, 0.012)
    f.paint(wrinkle, shade, 0.6 * np.minimum(f.inner_brow, 1))


def _mouth(f):
    one_side = np.clip(8 * f.u * np.copysign(np.float32(1), f.side) + 0.5, 0, 1)
    pull = f.corner_pull + f.dimple * one_side
    width = f.mouth_width * (1 + 0.3 * pull + 0.4 * f.lip_stretch - 0.1 * f.lip_press - 0.22 * f.jaw_drop)
    corner = f.mouth_rest - 0.12 * pull + 0.11 * f.corner_drop + 0.03 * f.lip_stretch
    t = np.minimum(f.a / width, 1)
    t *= t
    bow = 1 - t
    arc = np.sqrt(bow)
    off = f.v - f.mouth_y - 0.02 * f.corner_pull + 0.03 * (f.upper_lip + f.corner_drop) - corner * t
    up = (0.02 * f.lips_part + 0.035 * f.upper_lip) * bow + 0.05 * f.jaw_drop * arc
    down = (0.055 * f.lips_part + 0.02 * f.upper_lip) * bow + 0.22 * f.jaw_drop * arc
    lip = f.lip * (1 - 0.5 * f.lip_press) * bow
    inside = width - f.a
    _folds(f, pull, width)
    moustache = _all(off + up + lip + 0.07 * bow, 0.01 - off - up - lip, inside + 0.02)
    f.paint(moustache, 0.7 * f.hair + 0.1 * f.skin, np.clip(f.moustache, 0, 0.8))
    f.paint(_all(off + up + lip, down + 1.3 * lip - off, inside), f.lip_tone * f.skin)
    f.paint(_all(off + up, down - off, inside), 0.10, 0.9)
    teeth = _all(off + up - 0.01, 0.06 - up - off, down - 0.015 - off, inside - 0.15 * width)
    bared = f.corner_pull + f.lip_stretch + f.upper_lip + 0.3 * f.jaw_drop
    f.paint(teeth, 0.4 + 0.55 * f.skin, np.minimum(bared, 0.9))


def _folds(f, pull, width):
    """The folds from the nose to the corners of the mouth."""
    nose = f.eye_y + f.nose_length - 0.04 - 0.03 * f.nose_wrinkle
    start, end = (nose, f.nose_width + 0.03), (f.mouth_y + 0.02 - 0.06 * pull, width + 0.06)
    deep = np.maximum(np.maximum(pull, f.nose_wrinkle), f.upper_lip)
    f.paint(_stroke(f.v, f.a, start, end, 0.02, 0.014), 0.6 * f.skin, np.minimum(f.folds + 0.5 * deep, 0.7))


def _glasses(f):
    rim = _ellipse(f.a - f.eye_x, f.v - f.eye_y - 0.02, f.eye_width + 0.08, 0.18)
    f.paint(0.02 - np.abs(rim), f.rim, 0.9)
    bridge = _all(0.015 - np.abs(f.v - f.eye_y + 0.03), f.eye_x - f.eye_width - 0.08 - f.a)
    f.paint(bridge, f.rim, 0.9)


def _light(f):
    lit = f.tone * (1 + f.light_x * f.x + f.light_y * f.y)
    f.tone = (lit - 0.5) * (1 + f.contrast) + 0.5 + f.brightness


def _cover_offsets(f):
    du, dv = f.x - f.cover_x, f.y - f.cover_y
    return du + f.cover_turn * dv, dv - f.cover_turn * du


def _patch(f):
    du, dv = _cover_offsets(f)
    f.paint(_all(f.cover_size - np.abs(du), 0.8 * f.cover_size - np.abs(dv)), f.cover_tone)


def _hand(f):
    du, dv = _cover_offsets(f)
    for place, length in ((-0.8, 1.7), (-0.27, 2.0), (0.27, 2.1), (0.8, 1.8)):
        finger = _ellipse(du - place * f.cover_size, dv, 0.3 * f.cover_size, length * f.cover_size)
        f.paint(finger + 0.015, 0.45 * f.skin)
        f.paint(finger - 0.015, 0.95 * f.skin)


def _sensed(f, bits):
    """Blur, add noise, and round to uint8."""
    tone = f.tone
    for axis in (1, 2):
        last = tone.shape[axis] - 1
        before = tone.take(np.maximum(np.arange(-1, last), 0), axis)
        after = tone.take(np.minimum(np.arange(1, last + 2), last), axis)
        tone = tone + f.blur * (before + after - 2 * tone)
    # The sum of two bytes is nearly a bell: mean 255, standard deviation 104.5.
    pairs = bits.astype("<u8").view(np.uint8)[:, : 2 * tone[0].size].astype(np.int16)
    noise = (pairs[:, ::2] + pairs[:, 1::2] - 255).astype(np.float32).reshape(tone.shape)
    tone = tone + f.grain * (noise * (1 / 104.5))
    return np.clip(tone * 255 + 0.5, 0, 255).astype(np.uint8)
