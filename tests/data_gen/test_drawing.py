"""data_gen draws equal scenes to equal bytes, each solid on its own side of the wall."""

import numpy as np
import pytest
import torch

from data_gen import CLASSES, Scene, draw, sample_scene
from data_gen.rays import rays_through, rotation_matrices, trace
from data_gen.scene import ABOVE, BELOW
from data_gen.solids import CLASSES as SOLIDS
from data_gen.solids import length

SIZES = [(32, 16), (96, 48), (224, 170)]


def scenes_of(count: int, size: int = 96, wall_row: int | None = None, seed: int = 0) -> list[Scene]:
    """Each class above the wall in turn; below it every class, or nothing in every third scene."""
    rng = np.random.default_rng(seed)
    classes = len(CLASSES)
    return [
        sample_scene(i % classes, rng, size, wall_row, below=None if i % 3 == 0 else (3 * i + 1) % classes)
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return scenes_of(90)  # more than one batch of 64


@pytest.fixture(scope="module")
def drawn(scenes) -> tuple[np.ndarray, np.ndarray]:
    return draw(scenes)


def test_images_and_masks_are_bytes(drawn):
    images, masks = drawn
    assert (images.dtype, images.shape) == (np.uint8, (90, 96, 96, 3))
    assert (masks.dtype, masks.shape) == (np.uint8, (90, 96, 96))


@pytest.mark.parametrize("batch", [1, 7])
def test_the_batch_changes_no_byte(scenes, drawn, batch):
    parts = [draw(scenes[i : i + batch]) for i in range(0, 35, batch)]
    for whole, pieces in zip(drawn, zip(*parts, strict=True), strict=True):
        assert np.array_equal(whole[:35], np.concatenate(pieces))


def test_the_order_changes_no_byte(scenes, drawn):
    order = np.random.default_rng(1).permutation(len(scenes))
    for whole, shuffled in zip(drawn, draw([scenes[i] for i in order]), strict=True):
        assert np.array_equal(whole[order], shuffled)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_no_byte(scenes, drawn, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        again = draw(scenes)
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_a_scene_survives_json(scenes, drawn):
    copies = [Scene.from_json(scene.to_json()) for scene in scenes[:12]]
    assert copies == scenes[:12]
    assert hash(copies[0]) == hash(scenes[0])
    assert np.array_equal(draw(copies)[0], drawn[0][:12])


def test_another_seed_draws_another_image(drawn):
    assert not np.array_equal(drawn[0][:5], draw(scenes_of(5, seed=1))[0])


@pytest.mark.parametrize(("size", "wall_row"), SIZES)
def test_every_solid_stays_on_its_side_of_the_wall(size, wall_row):
    scenes = scenes_of(30, size, wall_row)
    masks = draw(scenes)[1]
    assert not (masks[:, wall_row:] == ABOVE).any()
    assert not (masks[:, :wall_row] == BELOW).any()
    for side in (ABOVE, BELOW):
        there = [scene.label_on(side) >= 0 for scene in scenes]
        assert np.array_equal((masks == side).any((1, 2)), there)


def test_what_lies_below_changes_no_byte_above():
    rngs = [np.random.default_rng(5) for _ in range(2)]
    alone = sample_scene(4, rngs[0])
    both = sample_scene(4, rngs[1], below=7)
    (one, two), masks = draw([alone, both])
    assert np.array_equal(one[:48], two[:48])
    assert not np.array_equal(one[48:], two[48:])
    assert (masks[1, 48:] == BELOW).any()


def test_a_mask_is_the_solids_outline():
    """A ball's mask is a disc: its centre and its area are known."""
    scenes = [sample_scene(CLASSES.index("sphere"), np.random.default_rng(i)) for i in range(20)]
    for scene, mask in zip(scenes, draw(scenes)[1], strict=True):
        (solid,) = scene.solids
        rows, columns = np.nonzero(mask == ABOVE)
        radius = (0.71 + 0.05 * solid.proportion) * solid.radius + 0.5  # outlines are half a pixel wide
        assert abs(rows.mean() + 0.5 - solid.row) < 0.3
        assert abs(columns.mean() + 0.5 - solid.column) < 0.3
        assert abs(len(rows) / (np.pi * radius**2) - 1) < 0.06


def test_solids_stand_out_from_the_backdrop(scenes, drawn):
    """Outside the masks and shadows an image is what it would be without solids; inside it is not."""
    bare = draw([Scene(96, 48, s.light, s.shadow, (), s.backdrop) for s in scenes])[0]
    difference = np.abs(drawn[0].astype(int) - bare).max(-1)
    inside = drawn[1] > 0
    assert difference[inside].mean() > 50
    assert np.median([d[m].mean() for d, m in zip(difference, inside, strict=True)]) > 60


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda solid: solid.name)
def test_distances_are_safe_to_step_by(solid):
    """No distance grows faster than the way walked, and every solid lies within the unit ball."""
    rng = np.random.default_rng(0)
    p, q = (torch.from_numpy(rng.uniform(-1.2, 1.2, (3, 20_000))) for _ in range(2))
    s = torch.from_numpy(rng.uniform(-1, 1, 20_000))
    slope = (solid.distance(*p, s) - solid.distance(*q, s)).abs() / length(*(p - q))
    assert slope.max() <= 1 + 1e-3
    outside = p / length(*p)
    assert solid.distance(*outside, s).min() > 0
    assert solid.distance(*p, s).min() < 0


@pytest.mark.parametrize("label", range(len(SOLIDS)), ids=CLASSES)
def test_tracing_finds_what_a_fine_search_finds(label):
    """The slow twin: every ray is searched at 400 heights."""
    scene = sample_scene(label, np.random.default_rng(label))
    matrices = rotation_matrices(scene.solids)
    rays = rays_through(scene.solids, matrices)
    near, place = trace(rays, label)
    heights = torch.linspace(1, -1, 400)[:, None] * rays.depth
    distances = torch.stack([SOLIDS[label].distance(*rays.at(z), rays.proportion) for z in heights])
    closest = distances.min(0).values
    hit, outline = closest < 0, closest.abs() < 0.05  # one pixel is 0.05
    assert (near[hit] < 0.02).float().mean() > 0.999
    assert (near - closest)[~hit & outline].abs().max() < 0.03  # farther off it only softens the shadow
    first = heights.gather(0, (distances < 0).int().argmax(0, keepdim=True))[0]
    assert (place - first)[hit & (near < 0.02)].abs().quantile(0.95) < 0.05


@pytest.mark.parametrize("label", range(len(SOLIDS)), ids=CLASSES)
def test_only_telling_viewpoints_are_drawn(label):
    for seed in range(50):
        (solid,) = sample_scene(label, np.random.default_rng(seed)).solids
        assert SOLIDS[label].shows(tuple(rotation_matrices([solid])[0, :, 2]))


def test_a_cylinder_end_on_and_a_torus_edge_on_are_not_drawn():
    shows = {solid.name: solid.shows for solid in SOLIDS}
    assert not shows["cylinder"]((0, 1, 0))
    assert not shows["torus"]((1, 0, 0))
    assert not shows["cone"]((0, 1, 0))
    assert not shows["dumb-bell"]((0, 1, 0))


def test_bad_requests_say_what_to_do():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"no class 10; classes are numbered 0 .. 9"):
        sample_scene(10, rng)
    with pytest.raises(ValueError, match="use 32 px or more"):
        sample_scene(0, rng, size=20)
    with pytest.raises(ValueError, match="use a row from 12 to 84"):
        sample_scene(0, rng, wall_row=90)
    with pytest.raises(ValueError, match=r"scenes of one size, got sizes \[64, 96\]"):
        draw([sample_scene(0, rng, size=64), sample_scene(0, rng)])
    with pytest.raises(ValueError, match="at least one scene"):
        draw([])
