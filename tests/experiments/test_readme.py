"""What the tables of README and docs are made of, and that they are what docs/results keeps."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments import over_seeds, readme
from experiments.benchmark import pages
from experiments.benchmark.duels import FORWARD, Duel
from experiments.benchmark.kept import Found, Kept, Measured, Terms
from tests.nets import photos, tiny, trained_tiny
from wallcheck.auditing import audit
from wallcheck.cams import METHODS, called
from wallcheck.results import Manifest, write_shard
from wallcheck.statistics import over_nets

ROOT = Path(__file__).parents[2]
SETS = dict(stack_mix=photos(7, seed=1)[0], stack_gen=photos(7, seed=2)[0])
SEEDS = ("seed-0", "seed-1", "seed-2")


def rows_of(nets, methods):
    """As `over_seeds.rows_of` gives them: three seeds, here three draws of the nets before training."""
    return pd.concat(
        [
            audit(net(seed), images, methods, net_name=name, image_set=set_).assign(seed=seed)
            for seed in SEEDS
            for name, net in nets.items()
            for set_, images in SETS.items()
        ]
    )


@pytest.fixture(scope="module")
def rows():
    nets = dict(
        walled=lambda seed: trained_tiny() if seed == "seed-0" else tiny(int(seed[-1]) + 4),
        untrained=lambda seed: tiny(int(seed[-1]) + 7),
    )
    return rows_of(nets, ["gradcam", "hirescam", "gradient"])


@pytest.fixture(scope="module")
def kept(rows):
    made = dict(
        settings=dict(every=7, count=7),
        command="python -m experiments.over_seeds",
        versions=dict(torch="2"),
        nets={seed: dict(walled=dict(validation_accuracy=0.9)) for seed in SEEDS},
    )
    every = {name: readme._every_cells(rows, name) for name in ("gradcam", "hirescam", "gradient")}
    return dict(made=made, every=every)


def test_a_cell_is_over_nets_and_images(rows):
    found = readme.over(rows, "gradcam", "walled", "stack_mix", "rectified", "grid", "leak_mass")
    chosen = rows[(rows.method == "gradcam") & (rows.net == "walled") & (rows.images == "stack_mix")]
    chosen = chosen[(chosen["view"] == "rectified") & (chosen.on == "grid") & (chosen.metric == "leak_mass")]
    values = np.array(
        [[float(chosen[(chosen.image == i) & (chosen.seed == s)]["value"].iloc[0]) for s in SEEDS] for i in range(7)]
    )
    assert found == {key: pytest.approx(value) for key, value in over_nets(values).items()}
    assert (found["nets"], found["count"]) == (3, 7)


def test_every_measured_method_has_a_line_and_the_others_are_named(kept):
    table = readme.all_table(kept)
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines() if line.startswith("| ")}
    assert {called(name) for name in kept["every"]} == set(lines) - {"method", "---"}
    assert "| `hirescam` |" in lines["HiResCAM"] and "| zero | cells | 0.000" in lines["HiResCAM"]
    assert "| zero | pixels |" in lines["gradient"]
    assert (
        "3 nets trained from different seeds (validation accuracy 90.0% to 90.0%), the same 7 images of each set"
        in table
    )
    missing = table.splitlines()[-1].rpartition("tested on others: ")[2].rstrip(".")
    assert set(missing.split(", ")) == {called(name) for name in set(METHODS) - set(kept["every"])}


def test_tables_go_where_their_marks_are(kept):
    """In the README and on the page of methods as they are; done again, nothing changes."""
    text, page = (ROOT / "README.md").read_text(), (ROOT / "docs/methods.md").read_text()
    whole = kept | {"paper": {"gradcam": kept["every"]["gradcam"]}}
    once = readme.with_tables(text, page, whole)
    assert readme.paper_table(whole) in once[0] and readme.all_table(whole) in once[1]
    assert readme.with_tables(*once, whole) == once


def test_the_command_that_made_them_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no nets\.json; finish it with python -m experiments\.over_seeds"):
        readme.measured(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no audit of nets"):
        over_seeds.rows_of(tmp_path, over_seeds.PAPER)


def test_speed_is_told_from_the_rounds():
    duels = [
        Duel("cheap suite, 27 methods", FORWARD, 8, [2.4, 2.6], [2.0, 2.0]),
        Duel("the 11 that pytorch-grad-cam has", "pytorch-grad-cam, one after another", 8, [1.0], [40.0]),
        Duel("scorecam", "pytorch_grad_cam.ScoreCAM", 8, [1.0, 1.0, 1.0], [2.0, 3.0, 5.0]),
        Duel("scorecam_torchcam", "torchcam.ScoreCAM", 8, [], [], note="left out"),
    ]
    terms = Terms("vgg_small", "cpu", "exact", 8, 2, "wall", None, False, "a machine", None, {})
    found = {"all": Found(3, 60, 1.0, duels), "memory of cheap suite": Found(3, 60, 1.0, mb=84.3)}
    told = readme.speed(Measured(terms, 1e9, 10**9, list(found), found))
    assert told == (
        "* `vgg_small`, cpu, 2 threads: cheap suite, 27 methods (one forward, one head-backward) together take "
        "1.25 (1.2-1.3) of one forward, the 11 that pytorch-grad-cam has 40 (40-40) times faster than its own one after "
        "another, `scorecam` 3 (2-5) times faster than "
        "pytorch_grad_cam.ScoreCAM; memory of the suite 84 MiB."
    )
    assert readme.speed(Measured(terms, 1e9, 10**9, list(found))).endswith("2 threads: nothing told yet.")


def test_the_benchmarks_page_is_made_of_the_numbers_beside_it():
    assert pages.markdown(Kept(ROOT / "docs")) == (ROOT / "docs/benchmark.md").read_text()


def test_only_what_stands_between_the_marks_is_replaced():
    text = "before\n<!-- a -->\nold\n<!-- /a -->\nafter\n"
    assert readme.replaced(text, "a", r"new \1") == "before\n<!-- a -->\nnew \\1\n<!-- /a -->\nafter\n"
    with pytest.raises(ValueError, match="no marks <!-- b -->"):
        readme.replaced(text, "b", "new")


def test_empty_maps_stand_beside_every_mean():
    """A method whose map is empty on nine images of ten, on each of three nets."""
    values = np.full((10, 3), np.nan)
    values[0] = 0.25
    assert readme.cell(over_nets(values)).endswith("90% empty")
    assert readme.cell({**over_nets(np.full((10, 3), np.nan)), "mean": None}) == "all empty"


def test_the_tables_are_those_of_the_kept_figures():
    """README and the page of methods show what docs/results/over_seeds.json holds, of five nets at least."""
    kept = json.loads((ROOT / "docs" / readme.KEPT).read_text())
    assert len(kept["made"]["nets"]) >= 5 and kept["made"]["command"].startswith("python -m experiments.over_seeds")
    text, page = (ROOT / "README.md").read_text(), (ROOT / "docs/methods.md").read_text()
    assert readme.with_tables(text, page, kept) == (text, page)


def test_the_figure_of_every_method_is_of_the_first_seed(rows, tmp_path):
    run = tmp_path / "seed-0" / over_seeds.EVERY
    Manifest(config={}).save(run)
    controls = audit(trained_tiny(), SETS["stack_mix"], ["constant"], net_name="walled", image_set="stack_mix")
    write_shard(run, pd.concat([rows[rows.seed == "seed-0"].drop(columns="seed"), controls], ignore_index=True))
    with Image.open(readme.families(tmp_path)) as drawn:
        assert drawn.format == "PNG"
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["families.pdf", "families.png"]
