"""All that decides one image: a scene is drawn by chance once, kept, and rendered without any more chance.

Lengths and places are in pixels, rows grow downwards; colours are (red, green, blue) in [0, 1];
directions are unit vectors (right, up, towards the viewer).
"""

import json
from dataclasses import asdict, dataclass
from numbers import Integral

ABOVE, BELOW = 1, 2  # the ids that masks give to the object above the wall and to the one below
SMALLEST_IMAGE, SMALLEST_SIDE = 32, 12  # pixels; below them no shape can be told from another

Colour = tuple[float, float, float]
Direction = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]  # w, x, y, z of a unit quaternion


@dataclass(frozen=True)
class Solid:
    """One shaded object; `row`, `column`, `radius` are its bounding ball, `side` is ABOVE or BELOW."""

    label: int
    side: int
    row: float
    column: float
    radius: float
    rotation: Quaternion  # viewer -> object
    proportion: float  # in [-1, 1]: from slender to stout
    colour: Colour
    second_colour: Colour
    texture: str
    texture_scale: float  # periods per bounding radius
    texture_offset: Direction
    gloss: float


@dataclass(frozen=True)
class Patch:
    """A flat distractor of the backdrop; `across` is (cos, sin) of its long axis' angle."""

    kind: str
    row: float
    column: float
    length: float
    slimness: float  # length / breadth
    across: tuple[float, float]
    stripes: float  # dark stripes along the patch; 0 is none
    colour: Colour
    opacity: float


@dataclass(frozen=True)
class Backdrop:
    """What lies behind the solids: fractal noise between two colours, tinted by a third, and patches."""

    dark: Colour
    bright: Colour
    tint: Colour
    contrast: float
    roughness: float  # weight of an octave over the weight of the next coarser one
    grain: float  # amplitude of the pixel noise
    patches: tuple[Patch, ...]
    noise_seed: int


@dataclass(frozen=True)
class Scene:
    """All that decides one image of size x size pixels: equal scenes draw equal bytes."""

    size: int
    wall_row: int
    light: Direction
    shadow: float  # darkness of the shadows, 0 is none
    solids: tuple[Solid, ...]
    backdrop: Backdrop

    def __post_init__(self):
        check_size(self.size, self.wall_row)

    def label_on(self, side: int) -> int:
        """Class of the solid above or below the wall, -1 where there is none."""
        return next((solid.label for solid in self.solids if solid.side == side), -1)

    def to_json(self) -> str:
        """One line of JSON; `Scene.from_json` gives an equal scene back, to the last bit."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> "Scene":
        fields = json.loads(line)
        backdrop = fields.pop("backdrop")
        patches = tuple(Patch(**_tuples(patch)) for patch in backdrop.pop("patches"))
        solids = tuple(Solid(**_tuples(solid)) for solid in fields.pop("solids"))
        return cls(**_tuples(fields), solids=solids, backdrop=Backdrop(**_tuples(backdrop), patches=patches))


def check_numbers(count: int, size: int, seed: int) -> None:
    """Refuse what no set can be made of, before anything is."""
    for name, value in dict(count=count, size=size, seed=seed).items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"{name} is {value!r}, expected a whole number")
    if count < 1:
        raise ValueError(f"a set needs at least one image, got a count of {count}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed {seed} is not in 0 .. 2**32 - 1")


def check_size(size: int, wall_row: int) -> None:
    """Refuse images in which an object could not be told, above or below the wall."""
    if size < SMALLEST_IMAGE:
        raise ValueError(f"images of {size} px are too small to tell shapes; use {SMALLEST_IMAGE} px or more")
    if not SMALLEST_SIDE <= wall_row <= size - SMALLEST_SIDE:
        raise ValueError(
            f"a wall at row {wall_row} of {size} leaves one side too thin for an object; "
            f"use a row from {SMALLEST_SIDE} to {size - SMALLEST_SIDE}"
        )


def _tuples(fields: dict) -> dict:
    """JSON knows lists only; scenes are hashable."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
