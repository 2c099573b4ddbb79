"""DiPart's question, small: the wall is the quadrant, maps are turned as told, and what is kept and told."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import quadrants
from experiments.quadrant_nets import behind, cuts, seen_cells, stacked
from experiments.small_nets import Recipe
from tests.experiments.kept import keeps_what_is_finished
from wallcheck.certificate import certify

NAMES = ["gradcam", "hirescam", "constant"]


@pytest.fixture(scope="module")
def net():
    return Recipe(wall=0).built()


def test_cuts_are_the_last_layers_of_three_resolutions(net):
    with torch.no_grad():
        shapes = [net.features[:cut](torch.zeros(1, 3, 32, 32)).shape[1:] for cut in cuts(net)]
    assert [tuple(shape) for shape in shapes] == [(24, 16, 16), (32, 8, 8), (64, 4, 4)]


@pytest.mark.parametrize("quadrant", range(4))
@pytest.mark.parametrize("depth", range(3))
def test_the_head_reads_its_quadrant_alone(net, depth, quadrant):
    walled = behind(net, cuts(net)[depth], quadrant)
    assert certify(walled).holds and walled.wall.seen.mean() == 0.25
    draw = torch.Generator().manual_seed(quadrant)
    images = torch.randn(2, 3, 64, 64, generator=draw)
    unseen = torch.from_numpy(walled.regions.unseen.copy())
    assert unseen.double().mean() > 0.4
    other = torch.where(unseen, 100 * torch.randn(2, 3, 64, 64, generator=draw), images)
    with torch.no_grad():
        assert torch.equal(walled(images), walled(other))
        row, column = (32 * half for half in divmod(quadrant, 2))
        assert not torch.equal(walled(images), walled(images.roll((row or 32, column), (2, 3))))


def test_what_follows_the_cut_runs_on_the_quadrant_as_on_an_image_of_its_own(net):
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    cut, quadrant = cuts(net)[1], 2
    with torch.no_grad():
        own = net.features[:cut](images)[:, :, 8:, :8]
        torch.testing.assert_close(behind(net, cut, quadrant)(images), net.head(net.features[cut:](own)))
    assert seen_cells(4, 1).tolist() == [[False, False, True, True]] * 2 + [[False] * 4] * 2


@pytest.mark.parametrize("quadrant", range(4))
def test_maps_are_turned_so_that_the_seen_quadrant_is_the_top_left(quadrant):
    maps = torch.zeros(1, 4, 4)
    row, column = (2 * half for half in divmod(quadrant, 2))
    maps[0, row : row + 2, column : column + 2] = torch.tensor([[1.0, 2.0], [3.0, 2.0]])
    turned = quadrants.shares(maps, quadrant).view(4, 4)
    assert turned[:2, :2].sum() == 1 and torch.count_nonzero(turned[2:]) == 0
    inner = maps[0, 1 if row == 0 else 2, 1 if column == 0 else 2]  # the cell at the middle of the image
    assert turned[1, 1] * 8 == inner
    assert quadrants.shares(-maps, quadrant).isnan().all()


def test_percentiles_by_hand():
    inside = np.linspace(0, 1, 20)
    rows = pd.DataFrame(dict(inside=[*inside, np.nan], map=[np.full(4, value) for value in [*inside, np.nan]]))
    found = quadrants.pictures(rows)
    assert [title for title, _ in found] == ["0–5 %: 1.00", "5–50 %: 0.74", "50–95 %: 0.26", "95–100 %: 0.00"]
    for (_, picture), mean in zip(found, (1, inside[10:19].mean(), inside[1:10].mean(), 0), strict=True):
        assert picture.shape == (2, 2) and picture == pytest.approx(np.full((2, 2), mean))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quadrants")
    options = quadrants.QuadrantRun(
        methods=NAMES, seeds=1, images=2, train_count=64, epochs=1,
        nets=str(folder / "nets"), out=str(folder / "run"), docs=str(folder / "docs"),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.small_nets.HELD_OUT", 20)
        patch.setattr("experiments.quadrant_nets.TILES", 40)
        quadrants.main(options)
        yield options, folder


def test_what_is_measured_is_what_is_told(run):
    _, folder = run
    rows = pd.read_parquet(folder / "run" / "rows.parquet")
    assert len(rows) == 3 * 4 * 2 * len(NAMES)
    assert (rows[rows["method"] == "constant"]["inside"] == 0.25).all()
    assert (rows[rows["method"] == "hirescam"]["inside"].dropna() == 1).all()
    assert (rows[rows["method"] == "gradcam"]["inside"].dropna() < 1).all()
    page = (folder / "docs" / "quadrants.md").read_text()
    found = json.loads((folder / "docs" / "quadrants.json").read_text())["found"]
    table = pd.DataFrame(found["inside"]).set_index(["method", "depth"])
    mean = rows[(rows["method"] == "gradcam") & (rows["depth"] == 2)]["inside"].mean()
    assert table.loc[("gradcam", 2), "mean"] == pytest.approx(mean, rel=1e-3)
    assert "Exactly inside at every cut: HiResCAM." in page and "Rao, Böhle and Schiele" in page
    assert (folder / "docs" / "quadrants.png").stat().st_size > 1000


def test_tiles_are_of_four_classes_and_stand_where_they_are_said_to(run):
    options, folder = run
    (recipe,) = quadrants.recipes(options)
    images, classes = stacked(recipe.built(), recipe, 3, folder / "nets")
    assert images.shape == (3, 3, 64, 64) and all(len(set(row)) == 4 for row in classes.tolist())
    tiles = quadrants.small_nets.image_set("mix_background", 40, recipe, folder / "nets")
    pixels, labels = tiles.images(), np.array(tiles.labels)
    for quadrant in range(4):
        row, column = (32 * half for half in divmod(quadrant, 2))
        tile = images[0, :, row : row + 32, column : column + 32]
        (place,) = [n for n, one in enumerate(pixels) if torch.equal(one, tile)]
        assert labels[place] == classes[0, quadrant]


def test_what_is_finished_is_kept_and_other_settings_are_refused(run):
    options, folder = run
    page = folder / "docs" / "quadrants.md"
    keeps_what_is_finished(quadrants, options, page, ("measured", "of_net"), "images: 2 there, 3 here", images=3)
