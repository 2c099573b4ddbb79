"""What the README's tables and its line on speed are made of."""

import dataclasses

import pandas as pd
import pytest

from experiments import readme
from experiments.benchmark.duels import Duel
from tests.nets import photos, pooled_sibling, tiny, trained_tiny
from wallcheck.auditing import audit
from wallcheck.cams import METHODS

NAN = float("nan")
MEASURES = ("leak_mass", "leak_any")
SETS = dict(stack_mix=photos(3, seed=1)[0], stack_gen=photos(3, seed=2)[0])


def rows_of(nets, methods):
    return pd.concat(
        [
            audit(net, images, methods, net_name=name, image_set=set_)
            for name, net in nets.items()
            for set_, images in SETS.items()
        ]
    )


@pytest.fixture(scope="module")
def table():
    rows = rows_of(dict(walled=trained_tiny(), untrained=tiny()), ["gradcam", "hirescam", "gradient"])
    pooled = rows_of(dict(walled=pooled_sibling(trained_tiny()), untrained=pooled_sibling(tiny())), ["cam", "gradcam"])
    return readme.all_table(rows, pooled)


def test_every_measured_method_has_a_line_and_the_others_are_named(table):
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines() if line.startswith("| ")}
    assert {"gradcam", "hirescam", "gradient", "cam (pooled head)"} == set(lines) - {"method", "---"}
    few = "(n = 3: no interval)"
    assert lines["hirescam"].endswith(f"| zero | 0.000 {few} | 0.000 {few} | 0% {few} | 0% {few} |")
    assert lines["gradcam"].endswith(f"| 100% {few} |")
    told = table.splitlines()[-1].removeprefix("Defined on smaller nets only, and tested there: ").rstrip(".")
    assert set(told.split(", ")) == set(METHODS) - {"gradcam", "hirescam", "gradient", "cam"}


def test_speed_is_told_from_the_rounds():
    def duel(name, against, ours, theirs):
        return dataclasses.asdict(Duel(name, against, 8, ours, theirs))

    duels = [
        duel("cheap suite, 27 methods", "one forward to the target layer", [2.4, 2.6], [2.0, 2.0]),
        duel("the 11 that pytorch-grad-cam has", "pytorch-grad-cam, one after another", [1.0], [40.0]),
        duel("scorecam", "pytorch_grad_cam.ScoreCAM", [1.0, 1.0, 1.0], [2.0, 3.0, 5.0]),
        duel("scorecam_torchcam", "torchcam.ScoreCAM", [], []),
    ]
    measured = dict(net="vgg_small", device="cpu", threads=2, duels=duels, memory={"cheap suite": 84.3})
    assert readme.speed(measured) == (
        "* `vgg_small`, cpu, 2 threads: cheap suite, 27 methods (one forward, one head-backward) together take "
        "1.25 (1.2-1.3) of one forward, the 11 that pytorch-grad-cam has 40 (40-40) times faster than its own one after "
        "another, `scorecam` 3 (2-5) times faster than "
        "pytorch_grad_cam.ScoreCAM; memory of the suite 84 MiB."
    )


def test_only_what_stands_between_the_marks_is_replaced():
    text = "before\n<!-- a -->\nold\n<!-- /a -->\nafter\n"
    assert readme.replaced(text, "a", r"new \1") == "before\n<!-- a -->\nnew \\1\n<!-- /a -->\nafter\n"
    with pytest.raises(ValueError, match="no marks <!-- b -->"):
        readme.replaced(text, "b", "new")


def test_empty_maps_stand_beside_every_mean(table):
    """A method whose map is empty on nine images of ten."""
    values = [0.25] + [NAN] * 9
    view = dict(view="rectified", on="grid", net="walled", images="stack_mix", method="gradcam", target=0)
    rows = pd.DataFrame([dict(view, metric=m, image=i, value=v) for m in MEASURES for i, v in enumerate(values)])
    where = ("walled", "stack_mix", "gradcam", "rectified", "grid", "leak_mass")
    assert readme.cell(rows, *where) == "0.250 (n = 1: no interval), 90% empty"
    rows["value"] = NAN
    assert readme.cell(rows, *where) == "all empty"
