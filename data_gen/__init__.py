"""data_gen renders the image sets: shaded solids on cluttered backdrops, above and below the wall.

python -m data_gen --out data                           # every set, 96 px
data_gen.make_set("stack_mix", "data", count=100)       # one set
images, masks = data_gen.draw([data_gen.sample_scene(label=2, rng=rng)])
"""

from data_gen.drawing import draw
from data_gen.making import make_set, process_pool
from data_gen.photographs import stack_mix_from_folder
from data_gen.recipes import RECIPES
from data_gen.sampling import sample_scene
from data_gen.scene import Scene
from data_gen.solids import NAMES as CLASSES

SETS = tuple(RECIPES)

__all__ = [
    "CLASSES", "SETS", "Scene", "draw", "make_set", "process_pool", "sample_scene", "stack_mix_from_folder"
]  # fmt: skip
