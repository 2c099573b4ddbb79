"""The image sets: which object stands above the wall in image i, and what lies below it.

A set is a list of samples that depends on (set name, count, size, wall row, seed) alone. Each sample
draws from generators of its own, named by (seed, set, image, part), so sets never share chance
except where they should: the controls of STACK-MIX have the tops of STACK-MIX.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from data_gen.sampling import sample_scene
from data_gen.scene import ABOVE, BELOW, Scene
from data_gen.solids import NAMES

TOP, BOTTOM, ORDER = 0, 1, 2  # what a generator is for
SCENE, NOISE, CONSTANT = "scene", "noise", "constant"
CONTROLLED = "stack_mix"  # its controls show its tops


@dataclass(frozen=True)
class Sample:
    """One image of a set.

    The rows above the wall show `top`. Below the wall: the rest of `top` if `bottom` is None, else
    what `bottom` names: the first rows of another scene, noise from a seed, or a constant.
    """

    label: int
    below: int  # class of the object below the wall, -1 for none
    top: Scene
    bottom: Scene | int | None = None
    filling: str = SCENE  # of `bottom`: SCENE, NOISE (its seed), CONSTANT (its grey value)


@dataclass(frozen=True)
class Recipe:
    """How a set is made.

    `bottoms` gives the class below the wall (-1 for none) of the n-th image of a class. `tops` names
    the set whose labels and upper scenes are used, if not its own.
    """

    purpose: str
    count: int
    bottoms: Callable[[int, int], int]  # (label, number among the images of that label) -> class or -1
    sample: Callable[[str, int, int, int, "Frame"], Sample]  # (set name, image, label, below, frame)
    tops: str | None = None


@dataclass(frozen=True)
class Frame:
    """What all images of a set share."""

    size: int
    wall_row: int
    seed: int


def chance(seed: int, name: str, image: int, part: int) -> np.random.Generator:
    """The generator of one part of one image of one set."""
    return np.random.default_rng(np.random.SeedSequence((seed, crc32(name.encode()), image, part)))


def plan(name: str, count: int, seed: int) -> list[tuple[int, int]]:
    """(label, class below or -1) of every image, in a random order.

    Labels are balanced to within one image; what lies below is dealt in turn, not drawn.
    """
    if count < 1:
        raise ValueError(f"the set {name!r} needs at least one image, got a count of {count}")
    recipe, classes = recipe_of(name), len(NAMES)
    dealt = [(i % classes, recipe.bottoms(i % classes, i // classes)) for i in range(count)]
    order = chance(seed, recipe.tops or name, 0, ORDER).permutation(count)
    return [dealt[i] for i in order]


def empty_or_any(label: int, number: int) -> int:
    """Twenty turns: ten of nothing, ten of one class each, starting elsewhere for each label.

    Over 200 images each label meets each class once and nothing ten times, so the label is exactly
    independent of what lies below; fewer images come as close as they can.

    >>> [empty_or_any(0, n) for n in range(6)], [empty_or_any(1, n) for n in range(6)]
    ([-1, 0, -1, 1, -1, 2], [0, -1, 1, -1, 2, -1])
    """
    turn = (number + label) % (2 * len(NAMES))
    return turn // 2 if turn % 2 else -1


def another(label: int, number: int) -> int:
    """Each other class in turn.

    >>> [another(8, n) for n in range(3)]
    [9, 0, 1]
    """
    classes = len(NAMES)
    return (label + 1 + number % (classes - 1)) % classes


def same(label: int, number: int) -> int:
    return label


def none(label: int, number: int) -> int:
    return -1


def coherent(name: str, image: int, label: int, below: int, frame: Frame) -> Sample:
    """One scene, one light; an object above the wall and perhaps one below."""
    return Sample(label, below, _scene(name, image, TOP, label, below, frame))


def stacked(name: str, image: int, label: int, below: int, frame: Frame) -> Sample:
    """The rows above the wall from one scene, the rows below it are the first rows of another.

    The other scene's own wall stands where its shown rows end, so its object is seen whole.
    """
    shown = replace(frame, wall_row=frame.size - frame.wall_row)
    return Sample(label, below, _mix_top(image, label, frame), _scene(name, image, BOTTOM, below, -1, shown))


def over_noise(name: str, image: int, label: int, below: int, frame: Frame) -> Sample:
    seed = int(chance(frame.seed, name, image, BOTTOM).integers(2**32))
    return Sample(label, below, _mix_top(image, label, frame), seed, NOISE)


def over_constant(name: str, image: int, label: int, below: int, frame: Frame) -> Sample:
    """Mid grey: no colour of the image, no edge but the seam."""
    return Sample(label, below, _mix_top(image, label, frame), 128, CONSTANT)


def _mix_top(image: int, label: int, frame: Frame) -> Scene:
    return _scene(CONTROLLED, image, TOP, label, -1, frame)


def _scene(name: str, image: int, part: int, above: int, below: int, frame: Frame) -> Scene:
    rng = chance(frame.seed, name, image, part)
    above, below = (None if label < 0 else label for label in (above, below))
    return sample_scene(above, rng, frame.size, frame.wall_row, below)


RECIPES: dict[str, Recipe] = {
    "train": Recipe("to train on", 10_000, empty_or_any, coherent),
    "val": Recipe("to validate on, made as train", 1_000, empty_or_any, coherent),
    CONTROLLED: Recipe("two images of one class, cut at the wall", 100, same, stacked),
    "stack_gen": Recipe("one scene with two objects of one class", 100, same, coherent),
    "mix_other_class": Recipe("STACK-MIX over an object of another class", 100, another, stacked, CONTROLLED),
    "mix_background": Recipe("STACK-MIX over background only", 100, none, stacked, CONTROLLED),
    "mix_noise": Recipe("STACK-MIX over noise", 100, none, over_noise, CONTROLLED),
    "mix_constant": Recipe("STACK-MIX over mid grey", 100, none, over_constant, CONTROLLED),
}


def recipe_of(name: str) -> Recipe:
    """The recipe of a set; an unknown name is answered with the known ones."""
    if name not in RECIPES:
        raise ValueError(f"no image set named {name!r}; choose from {', '.join(RECIPES)}")
    return RECIPES[name]


def samples(name: str, count: int, frame: Frame, start: int = 0, stop: int | None = None) -> list[Sample]:
    """The samples start .. stop - 1 of a set of `count` images."""
    recipe = recipe_of(name)
    planned = list(enumerate(plan(name, count, frame.seed)))[start:stop]
    return [recipe.sample(name, image, label, below, frame) for image, (label, below) in planned]


def places(sample: Sample) -> dict[str, float]:
    """Centre and radius of the bounding balls above and below the wall, in pixels of the image; NaN for none."""
    stacked_on = sample.bottom is not None
    lower = (sample.bottom, ABOVE, sample.top.wall_row) if stacked_on else (sample.top, BELOW, 0)
    found = {}
    for prefix, (scene, side, down) in (("", (sample.top, ABOVE, 0)), ("below_", lower)):
        solids = scene.solids if isinstance(scene, Scene) else ()
        there = ((s.row + down, s.column, s.radius) for s in solids if s.side == side)
        row, column, radius = next(there, (np.nan,) * 3)
        found |= {f"{prefix}row": row, f"{prefix}column": column, f"{prefix}radius": radius}
    return found
