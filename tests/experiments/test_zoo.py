"""The zoo study, small: what is trained is what is audited, what is finished is kept, and any checkpoint is audited alike."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import wallcheck as wc
from experiments.zoo import __main__ as study
from experiments.zoo import measuring, page
from experiments.zoo.measuring import Part
from experiments.zoo.training import behind
from tests.models.opening import Own
from wallcheck import models, plots
from wallcheck.keeping import seeded
from wallcheck.statistics import over_nets

SMALL = dict(families=["tiny"], kinds=["trunk"], seeds=1, methods=["gradcam", "hirescam", "constant"], count=6, train_count=64, val_count=10, epochs=1, processes=1)  # fmt: skip


class Pooled(nn.Module):
    """Its head pools over positions, after norms, so that it takes a smaller map."""

    def __init__(self, classes=4):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 6, 3, padding=1), nn.ReLU())  # fmt: skip
        self.fc = nn.Linear(6, classes)

    def forward(self, images):
        return self.fc(self.features(images).mean((2, 3)))


def tiny(num_classes=10, seed=0):
    with seeded(seed):
        return Pooled(num_classes).eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The study of a family of the tests' own."""
    folder = tmp_path_factory.mktemp("zoo")
    options = study.ZooRun(**SMALL, out=str(folder / "run"), docs=str(folder / "docs"))
    models.SMALL["tiny"] = tiny
    study.main(options)
    yield options, folder
    models.SMALL.pop("tiny")


def test_every_image_of_every_net_is_a_row_and_the_page_is_made_of_them(run):
    _, folder = run
    rows = pd.read_parquet(folder / "run" / "rows.parquet")
    assert len(rows) == 2 * 3 * 6
    assert not rows.duplicated(["family", "kind", "state", "seed", "image", "method"]).any()
    mean = rows.groupby(["state", "method"])["value"].mean()
    assert mean["trained", "hirescam"] == 0 and mean["untrained", "hirescam"] == 0
    assert mean["trained", "constant"] == pytest.approx(0.5)
    assert mean["untrained", "gradcam"] > 0.1
    told = json.loads((folder / "docs" / "zoo.json").read_text())
    found = {(one["state"], one["method"]): one for one in told["found"]}
    assert found["trained", "gradcam"]["mean"] == pytest.approx(mean["trained", "gradcam"])
    nets = {one["state"]: one for one in told["nets"]}
    assert nets["trained"]["fingerprint"] != nets["untrained"]["fingerprint"]
    assert nets["trained"]["layer"] == "features" and nets["trained"]["unseen_pixels"] == 0.5
    text = (folder / "docs" / "zoo.md").read_text()
    assert (
        f"| tiny | trunk | trained | features (6 x 48 x 48) | 50% | 50% | {nets['trained']['accuracy']:.0%} |" in text
    )
    assert "--families tiny --kinds trunk" in text and "--count 6" in text
    assert (folder / "docs" / "zoo.png").is_file()


def test_what_is_finished_is_kept_and_more_is_added(run, monkeypatch):
    options, folder = run
    text = (folder / "docs" / "zoo.md").read_text()
    monkeypatch.setattr(measuring, "fitted", None)
    monkeypatch.setattr(measuring, "audit", None)
    study.main(options)
    assert (folder / "docs" / "zoo.md").read_text() == text
    (folder / "run" / "parts" / "tiny-trunk-trained-0.json").unlink()
    with pytest.raises(TypeError):  # audited again, but not trained again
        study.main(options)


def test_other_settings_are_refused(run):
    options, _ = run
    with pytest.raises(FileExistsError, match="run of other settings; choose another --out"):
        study.main(study.ZooRun(**{**SMALL, "epochs": 2}, out=options.out, docs=options.docs))
    with pytest.raises(LookupError, match="no family named 'regnets'; nearest: regnet"):
        study.main(study.ZooRun(**{**SMALL, "families": ["regnets"]}, out=options.out, docs=options.docs))
    with pytest.raises(ValueError, match="give a folder of them as --images"):
        study.main(study.ZooRun(pretrained=True, out=options.out))


def test_seeds_families_and_processes_may_differ_in_one_folder():
    assert {"families", "seeds", "processes"} <= set(study.ALONE)
    parts = study.parts(study.ZooRun(families=["vit", "swin"], seeds=2))
    assert len(parts) == len({part.name for part in parts}) == 2 * 2 * 2 * 2


class Placed(Pooled):
    """Its head reads places."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6 * 8 * 8, 4)

    def forward(self, images):
        return self.fc(self.features(images).flatten(1))


class Last(Pooled):
    """Its map has its channels last."""

    def __init__(self):
        super().__init__()
        self.turned = nn.LayerNorm(6)

    def forward(self, images):
        return self.fc(self.turned(self.features(images).permute(0, 2, 3, 1)).mean((1, 2)))


@pytest.mark.parametrize("kind", ["head", "trunk"])
@pytest.mark.parametrize("wall", ["bottom:1/2", "top:1/4", "left:1/2"])
@pytest.mark.parametrize("net", [Pooled, Placed, Last])
def test_what_is_trained_is_what_the_walled_net_computes(net, wall, kind):
    model = net().eval()
    layer = "turned" if net is Last else "features"
    walled = wc.blind(model, 16, layer, wall=wall, kind=kind)
    images = torch.randn(3, 3, 16, 16)
    with behind(model, walled) as logits_of, torch.no_grad():
        torch.testing.assert_close(logits_of(images), walled(images), rtol=1e-5, atol=1e-6)
        assert (walled(images)[0] != walled(images)[1]).any()
    assert not model.get_submodule(layer)._forward_hooks


def test_a_transformer_is_trained_on_its_seen_tokens():
    model = models.SMALL["vit"]()
    walled = wc.blind(model, 96, kind="trunk")
    images = torch.randn(2, 3, 96, 96)
    with behind(model, walled) as logits_of, torch.no_grad():
        torch.testing.assert_close(logits_of(images), walled(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth"])
def test_any_checkpoint_is_audited_from_a_folder_of_state_dicts(tmp_path, suffix):
    torch.manual_seed(3)
    weights, photos = tmp_path / "weights", tmp_path / "photos"
    for folder in (weights, photos / "ant", photos / "bee"):
        folder.mkdir(parents=True)
    state = Own().state_dict()
    path = weights / f"own.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    draw = np.random.default_rng(0)
    for number in range(6):
        values = draw.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(values).save(photos / ("ant", "bee")[number % 2] / f"{number}.png")
    options = study.ZooRun(pretrained=True, models=["tests.models.opening:own"], images=str(photos), weights=str(weights), image_size=16, methods=["gradcam", "hirescam", "constant"], processes=1, out=str(tmp_path / "run"), docs=str(tmp_path / "docs"))  # fmt: skip
    study.main(options)
    rows = pd.read_parquet(tmp_path / "run" / "rows.parquet")
    assert set(rows["state"]) == {"published"} and rows["image"].nunique() == 6
    net = wc.blind(models.opened("tests.models.opening:own", path), 16, kind="trunk")
    told = json.loads((tmp_path / "docs" / "zoo_published.json").read_text())
    assert net.graph.fingerprint in {one["fingerprint"] for one in told["nets"]}
    text = (tmp_path / "docs" / "zoo_published.md").read_text()
    assert "--pretrained True" in text and "| own | trunk | published |" in text
    with pytest.raises(FileNotFoundError, match=r"no other\.safetensors"):
        measuring._weights(
            Part("torchvision:other", "trunk", "published"), measuring.How("", "", "", 16, "", (), 1, 1, str(weights))
        )


def test_a_family_where_no_head_wall_hides_enough_is_said_to_be_so(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "LEAST", 0.99)
    how = measuring.How(str(tmp_path), "", "", 16, "bottom:1/2", ("gradcam",), 6, 1)
    part = Part("tests.models.opening:own", "head", "untrained")
    measuring.measured(part, how)
    facts = json.loads((tmp_path / "parts" / f"{part.name}.json").read_text())
    assert page.left_out([facts]) == "* own, head wall: no layer keeps 99% of the pixels unseen."


def test_what_is_left_out_is_named():
    facts = [
        dict(
            family="vit",
            kind="trunk",
            state="trained",
            undefined={"liftcam": "attention"},
            failures=[dict(method="random", count=3)],
        )
    ]
    assert page.left_out(facts).splitlines() == [
        "* vit, trunk wall: `liftcam` is not defined: attention.",
        "* vit, trunk wall, trained: `random` gave no map for 3 images.",
    ]
    assert page.left_out([]) == "Nothing."


def test_intervals_are_over_nets_and_images():
    draw = np.random.default_rng(0)
    rows = pd.DataFrame([(f, "head", "trained", s, i, "gradcam", draw.uniform()) for f in ("a", "b") for s in range(3 if f == "a" else 1) for i in range(8)], columns=["family", "kind", "state", "seed", "image", "method", "value"])  # fmt: skip
    table = page.summary(rows).set_index("family")
    of = rows[rows["family"] == "a"].pivot(index="image", columns="seed", values="value").to_numpy()
    assert table.loc["a", ["mean", "low", "high"]].tolist() == pytest.approx(
        [over_nets(of)[name] for name in ("mean", "low", "high")]
    )
    assert table.loc["a", "nets"] == 3 and table.loc["b", "nets"] == 1 and np.isfinite(table.loc["b", "low"])
    figure = plots.zoo(rows)
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["a", "b"]
    with pytest.raises(ValueError, match="no column family"):
        plots.zoo(rows.drop(columns="family"))
