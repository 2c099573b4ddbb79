"""Chance: one scene from one generator. Nothing but shape and viewpoint depends on the class."""

import colorsys

import numpy as np

from data_gen.scene import ABOVE, BELOW, Backdrop, Colour, Direction, Patch, Quaternion, Scene, Solid
from data_gen.solids import CLASSES

TEXTURES = ("plain", "stripes", "checker", "spots", "marble")
PATCHES = ("ellipse", "bar")
PATCH_COUNT = 5
COLOUR_TRIALS = 6
SEEN_FROM = (15, 50)  # degrees above the horizon


def sample_scene(
    label: int | None,
    rng: np.random.Generator,
    size: int = 96,
    wall_row: int | None = None,
    below: int | None = None,
) -> Scene:
    """A scene with a solid of class `label` above the wall and one of class `below` under it.

    None leaves that side empty; the wall stands at half height if not told otherwise. Backdrop and
    light are drawn first, so they are the same whatever stands in front of them.
    """
    wall_row = size // 2 if wall_row is None else wall_row
    backdrop = sample_backdrop(rng, size)
    light, shadow = sample_light(rng), rng.uniform(0.35, 0.6)
    sides = ((label, ABOVE, 0, wall_row), (below, BELOW, wall_row, size))
    solids = tuple(
        sample_solid(kind, side, rows, size, backdrop, rng) for kind, side, *rows in sides if kind is not None
    )
    return Scene(size, wall_row, light, shadow, solids, backdrop)


def sample_solid(
    label: int, side: int, rows: tuple[int, int], size: int, backdrop: Backdrop, rng: np.random.Generator
) -> Solid:
    """A solid that lies wholly within the rows start .. stop - 1, at least one pixel from their ends."""
    if not 0 <= label < len(CLASSES):
        raise ValueError(f"no class {label}; classes are numbered 0 .. {len(CLASSES) - 1}")
    start, stop = rows
    radius = (min(stop - start, size) - 2) * rng.uniform(0.42, 0.49)
    margin = radius + 0.9  # 0.49 * (span - 2) + 0.9 < span / 2: it can move
    first, second = sample_colours(backdrop, rng)
    return Solid(
        label=label,
        side=side,
        row=rng.uniform(start + margin, stop - margin),
        column=rng.uniform(margin, size - margin),
        radius=radius,
        proportion=rng.uniform(-1, 1),
        colour=first,
        second_colour=second,
        texture=TEXTURES[rng.integers(len(TEXTURES))],
        texture_scale=rng.uniform(1.4, 3.2),
        texture_offset=tuple(rng.uniform(0, 16, 3).tolist()),
        gloss=rng.uniform(0.0, 0.5),
        rotation=sample_rotation(label, rng),  # last: the number of trials differs between classes
    )


def sample_rotation(label: int, rng: np.random.Generator) -> Quaternion:
    """A pose from which the class can be told: turned anyhow, seen from somewhat above, leaning a little."""
    kind = CLASSES[label]
    while True:
        turn, height = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(*SEEN_FROM))
        lean = np.radians(rng.uniform(-kind.lean, kind.lean))
        to_viewer = (np.sin(turn) * np.cos(height), np.sin(height), np.cos(turn) * np.cos(height))
        if kind.shows(to_viewer):
            return rotation(turn, height, lean)


def rotation(turn: float, height: float, lean: float) -> Quaternion:
    """Quaternion, viewer -> object, of a viewer that goes round by `turn`, up by `height` and tilts the head.

    The product (cos, sin y)(turn / 2) (cos, -sin x)(height / 2) (cos, sin z)(lean / 2), written out.
    """
    (ct, st), (ch, sh), (cl, sl) = ((np.cos(a / 2), np.sin(a / 2)) for a in (turn, height, lean))
    w, x, y, z = ct * ch, -ct * sh, st * ch, st * sh
    return tuple(map(float, (w * cl - z * sl, x * cl + y * sl, y * cl - x * sl, z * cl + w * sl)))


def sample_light(rng: np.random.Generator) -> Direction:
    """From above and in front, so that shading reads as shape."""
    light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(0.35, 1.0), rng.uniform(0.6, 1.1)])
    return tuple((light / np.sqrt((light * light).sum())).tolist())


def sample_backdrop(rng: np.random.Generator, size: int) -> Backdrop:
    """Muted colours, so that a saturated solid stands out."""
    hue = rng.uniform()
    darkness = rng.uniform(0.12, 0.55)
    near = (hue + rng.uniform(-0.1, 0.1)) % 1
    return Backdrop(
        dark=colorsys.hsv_to_rgb(hue, rng.uniform(0.1, 0.5), darkness),
        bright=colorsys.hsv_to_rgb(near, rng.uniform(0.05, 0.4), darkness + rng.uniform(0.2, 0.35)),
        tint=colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.1, 0.5), darkness + rng.uniform(0, 0.3)),
        contrast=rng.uniform(1.1, 2.2),
        roughness=rng.uniform(0.4, 0.65),
        grain=rng.uniform(0.0, 0.07),
        patches=tuple(sample_patch(rng, size, darkness) for _ in range(PATCH_COUNT)),
        noise_seed=int(rng.integers(2**32)),
    )


def sample_patch(rng: np.random.Generator, size: int, darkness: float) -> Patch:
    """Flat and unshaded, so that it is no solid: a soft ellipse or a bar, perhaps striped."""
    angle = rng.uniform(0, np.pi)
    return Patch(
        kind=PATCHES[rng.integers(len(PATCHES))],
        row=rng.uniform(0, size),
        column=rng.uniform(0, size),
        length=size * rng.uniform(0.12, 0.4),
        slimness=rng.uniform(1.3, 4.0),
        across=(float(np.cos(angle)), float(np.sin(angle))),
        stripes=float(rng.integers(2, 6) if rng.uniform() < 0.4 else 0),
        colour=colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.1, 0.6), darkness + rng.uniform(0, 0.3)),
        opacity=rng.uniform(0.2, 0.7),
    )


def sample_colours(backdrop: Backdrop, rng: np.random.Generator) -> tuple[Colour, Colour]:
    """A solid's colour and its texture's second colour.

    Of some trial colours the one farthest from the backdrop is taken; the second is its darker or
    paler neighbour.
    """
    trials = [
        colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.25, 0.85), rng.uniform(0.55, 1.0))
        for _ in range(COLOUR_TRIALS)
    ]
    first = max(trials, key=lambda colour: _distance(colour, backdrop))
    hue, saturation, value = colorsys.rgb_to_hsv(*first)
    hue = (hue + rng.uniform(-0.12, 0.12)) % 1
    return first, colorsys.hsv_to_rgb(hue, saturation * rng.uniform(0.4, 1.1), value * rng.uniform(0.55, 0.9))


def _distance(colour: Colour, backdrop: Backdrop) -> float:
    """Squared distance to the nearer of the backdrop's two colours."""
    against = backdrop.dark, backdrop.bright
    return min(sum((a - b) ** 2 for a, b in zip(colour, other, strict=True)) for other in against)
