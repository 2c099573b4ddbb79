"""The training command on what users have: class folders, walls and sizes by flags, regulariser, recipe, devices."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from experiments import train
from tests.sets import NAMES, write_cifar, write_class_folders, write_set
from wallcheck import models
from wallcheck.certificate import certify
from wallcheck.cli import main as wallcheck

ROOT = Path(__file__).parents[2]
SMALL = ["--model.preset", "vgg_small", "--model.image_size", "48", "--data.batch_size", "8"]
REGULARISED = ["--model.regulariser", "interpretable_gradients", "--model.regulariser.weight", "0.5"]


def fit(data: Path, out: Path, *more: object, config: Path | None = None) -> Path:
    arguments = ["fit", *(["--config", config] if config else []), "--data.folder", data, "--out", out]
    arguments += ["--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", 1, "--trainer.max_epochs", 1, *more]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train.main([str(argument) for argument in arguments])
    return out


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_class_folders(tmp_path_factory.mktemp("tree"), train=32, val=12)


def test_class_folders_train_another_wall_and_size_to_be_certified_and_audited(tree, tmp_path, capsys):
    flags = ["--model.preset", "vgg_small", "--model.image_size", 64, "--model.wall", "left:1/2"]
    out = fit(
        tree, tmp_path / "run", *flags, "--data.batch_size", 8, "--data.augmentation", "random_area", *REGULARISED
    )
    said = capsys.readouterr().out
    assert "behind the wall: columns 0..5 of 8 of cells; unseen: columns 0..31 of 64 of pixels (50.0 %)" in said
    model = out / "model.safetensors"
    log = pd.read_csv(out / "metrics.csv")
    accuracy = log["val_accuracy"].dropna().iloc[-1]
    assert f"the net is {model}; after epoch 1 of 1, on 12 validation images: top-1 {accuracy:.1%}" in said
    net = models.load(model)
    assert net.description["classes"] == list(NAMES)
    assert net.description["num_classes"] == 4
    assert net.regions.unseen.all(0).nonzero()[0].tolist() == list(range(32))
    certify(net).raise_if_broken()
    assert wallcheck(["certify", str(model)]) == 0
    audit = ["audit", str(model), "--images", str(tree / "val"), "--out", str(tmp_path / "audit")]
    assert wallcheck([*audit, "--methods", "gradcam", "hirescam"]) == 0
    rows = pd.concat(map(pd.read_parquet, (tmp_path / "audit" / "rows").glob("*.parquet")))
    leaks = rows[(rows["metric"] == "leak_mass") & (rows["on"] == "grid") & (rows["view"] == "rectified")]
    found = leaks.groupby("method", observed=True)["value"]
    assert found.count().to_dict() == {"gradcam": 12, "hirescam": 12}
    assert (leaks[leaks["method"] == "hirescam"]["value"] == 0).all()


def test_cifars_layout_trains(tmp_path):
    write_cifar(tmp_path / "data", "cifar10")
    flags = ["--model.image_size", 32, "--data.batch_size", 4, "--model.wall", "top:3"]
    out = fit(tmp_path / "data", tmp_path / "run", *flags)
    net = models.load(out / "model.safetensors")
    assert net.description["classes"] == [f"class{n}" for n in range(10)]
    assert net.description["wall"] == {"side": "top", "cells": 3}


def test_regulariser_and_its_settings_are_flags_and_change_the_net(tree, tmp_path):
    plain, weak, strong = (tmp_path / name for name in ("plain", "weak", "strong"))
    fit(tree, plain, *SMALL)
    fit(tree, weak, *SMALL, "--model.regulariser", "interpretable_gradients")
    more = ["--model.regulariser.error", "l2", "--model.regulariser.of", "loss", "--model.regulariser.detach", "false"]
    fit(tree, strong, *SMALL, *REGULARISED, *more)
    weights = [load_file(out / "model.safetensors")["features.0.weight"] for out in (plain, weak, strong)]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert "train_regulariser_step" not in pd.read_csv(plain / "metrics.csv")
    assert pd.read_csv(weak / "metrics.csv")["train_regulariser_step"].dropna().between(0, 2).all()
    settings = (strong / "config.yaml").read_text()
    for line in ("weight: 0.5", "error: l2", "of: loss", "detach: false"):
        assert line in settings
    assert "weight: 0.0075" in (weak / "config.yaml").read_text()


def test_a_regularised_training_goes_on_from_its_checkpoint_to_the_same_net(tree, tmp_path):
    whole = fit(tree, tmp_path / "whole", *SMALL, *REGULARISED, "--trainer.max_epochs", 2, "--optimizer", "SGD", "--optimizer.lr", 0.05)  # fmt: skip
    half = fit(tree, tmp_path / "half", *SMALL, *REGULARISED, "--optimizer", "SGD", "--optimizer.lr", 0.05)
    last = half / "checkpoints" / "last.ckpt"
    fit(tree, half, *SMALL, *REGULARISED, "--trainer.max_epochs", 2, "--optimizer", "SGD", "--optimizer.lr", 0.05, "--ckpt_path", last)  # fmt: skip
    one, other = (load_file(out / "model.safetensors") for out in (whole, half))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_papers_recipe_is_a_config_file(tree, tmp_path):
    config = ROOT / "experiments" / "configs" / "vgg16_walls.yaml"
    more = [*SMALL, "--trainer.precision", "bf16-mixed", "--data.workers", 0, "--model.num_classes", 8]
    out = fit(tree, tmp_path / "run", *more, config=config)
    kept = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    group, schedule = kept["optimizer_states"][0]["param_groups"][0], kept["lr_schedulers"][0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.03, 0.9, 1e-4)
    assert (schedule["step_size"], schedule["gamma"]) == (30, 0.1)
    log = pd.read_csv(out / "metrics.csv").iloc[-2:].max()
    assert log["val_accuracy"] <= log["val_top5"] <= 1
    written = config.read_text()
    for line in (
        "preset: vgg16_walls",
        "max_epochs: 90",
        "batch_size: 256",
        "precision: 16-mixed",
        "augmentation: random_area",
    ):
        assert line in written


def test_two_devices_train_as_one_with_their_batches_together(tmp_path):
    """DDP over two processes, the penalty's double backward included, against one process: equal but for rounding."""
    data = tmp_path / "data"
    write_set(data / "train", 16, seed=1, size=32)
    write_set(data / "val", 4, seed=2, size=32)
    nets = []
    for devices, batch in ((1, 8), (2, 4)):
        out = tmp_path / f"devices{devices}"
        command = ["fit", "--data.folder", data, "--out", out, "--model.image_size", 32, "--data.augmentation", "none"]
        command += [
            "--data.batch_size",
            batch,
            "--trainer.devices",
            devices,
            "--trainer.accelerator",
            "cpu",
            *REGULARISED,
        ]
        command += ["--optimizer", "SGD", "--optimizer.lr", 0.1, "--trainer.max_epochs", 1]
        done = subprocess.run(
            [sys.executable, "-m", "experiments.train", *map(str, command)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("the net is") == 1
        nets.append(load_file(out / "model.safetensors"))
    start = models.vgg_small(num_classes=4, image_size=32).state_dict()
    for name, value in nets[0].items():
        torch.testing.assert_close(nets[1][name], value, rtol=1e-4, atol=1e-6)
        assert not torch.equal(value, start[name])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.num_classes", 3], "train has 4 classes, the net 3 logits; use --model.num_classes 4"),
        (["--model.wall", "left:1/2", "--model.walled", "false"], "wall is 'left:1/2' and walled is false"),
        (["--model.wall", "leftt:1/2"], "'leftt:1/2' is no wall; write side:cells or side:share"),
        (["--model.image_size", 16, "--model.wall", "left:1/2"], "no wall at the left .* hides a pixel"),
        (["--model.image_size", 4], "use a longer image side than"),
    ],
)
def test_wrong_flags_say_what_to_do_next(tree, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        fit(tree, tmp_path / "run", *SMALL, *flags)


def test_a_set_of_another_size_says_which_size_to_train(tmp_path):
    write_set(tmp_path / "data" / "train", 16, size=32)
    write_set(tmp_path / "data" / "val", 4, size=32)
    with pytest.raises(ValueError, match=r"has images of 32 px, the net takes 48; train it with --model.image_size 32"):
        fit(tmp_path / "data", tmp_path / "run", *SMALL)


def test_a_description_written_before_sizes_and_walls_were_flags_still_loads(tmp_path):
    net = models.vgg_small(num_classes=4, image_size=32)
    path = models.save(net, tmp_path / "net.safetensors")
    description = json.loads(path.with_suffix(".json").read_text())
    assert sorted(description) == sorted(["format", "builder", "plan", "image_size", "num_classes", "hidden", "wall", "pooled", "dropout"])  # fmt: skip
    assert np.array_equal(models.load(path).wall.seen, net.wall.seen)
