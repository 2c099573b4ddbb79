"""No optimiser opens the wall, and training through Lightning repeats and resumes."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.nn.functional import cross_entropy

from experiments import train
from tests.nets import SIZE, photos, tiny
from tests.sets import pixels, write_set
from wallcheck import models
from wallcheck.certificate import certify, fingerprint
from wallcheck.labelled import open_labelled
from wallcheck.lit.sets import Batches, ShuffledBatches
from wallcheck.models import PRESETS

OPTIMISERS = {
    "SGD with momentum and weight decay": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, weight_decay=1e-2),
    "SGD with Nesterov momentum": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, weight_decay=1e-2, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, 3e-3, weight_decay=1e-2),
    "AdamW": lambda p: torch.optim.AdamW(p, 3e-3, weight_decay=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9, weight_decay=1e-2),
}


@pytest.mark.parametrize(
    "wall", [{"side": "bottom", "cells": 7}, {"side": "centre", "cells": 4}], ids=lambda w: w["side"]
)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_steps_leave_the_wall_shut(optimiser, wall):
    net = tiny(wall=wall, dropout=0.2).train()
    before = certify(net).raise_if_broken()
    steps, (images, labels) = OPTIMISERS[optimiser](net.parameters()), photos(64)
    for _ in range(15):
        steps.zero_grad()
        loss = cross_entropy(net(images), labels)
        loss.backward()
        steps.step()
    after = certify(net).raise_if_broken()
    assert np.array_equal(after.unseen_pixels, before.unseen_pixels)
    assert after.fingerprint != before.fingerprint
    assert cross_entropy(net.eval()(images), labels) < np.log(4)


def test_unseen_pixels_do_not_teach():
    """Two trainings that differ in nothing but unseen pixels end in the same weights, to the bit."""
    nets = []
    for below in (0.0, 1e3):
        net, (images, labels) = tiny().train(), photos(32)
        images[:, :, torch.from_numpy(net.regions.unseen.copy())] = below
        steps = torch.optim.SGD(net.parameters(), 0.02, momentum=0.9, weight_decay=1e-2)
        for _ in range(5):
            steps.zero_grad()
            cross_entropy(net(images), labels).backward()
            steps.step()
        nets.append(net)
    assert fingerprint(nets[0]) == fingerprint(nets[1])


# Through Lightning


class Interrupt(Callback):
    """Stops training as a crash would, after the first step of an epoch."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def on_train_batch_end(self, trainer, *_):
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("power cut")


@pytest.fixture(scope="module", autouse=True)
def small_preset():
    """A preset small enough for tests, under its own name while they run."""

    def tiny_preset(num_classes=4, walled=True, seed=0):
        net = tiny(seed, wall={"side": "bottom", "cells": 7} if walled else None)
        assert num_classes == 4
        return net

    PRESETS["tiny"] = tiny_preset
    yield
    del PRESETS["tiny"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_set(folder / "train", 52, seed=1)
    write_set(folder / "val", 12, seed=2)
    return folder


@pytest.fixture(scope="module")
def fit(data):
    def run(out, *more):
        arguments = [
            "fit",
            "--out",
            str(out),
            "--model.preset",
            "tiny",
            "--model.num_classes",
            "4",
            "--model.lr",
            "3e-3",
        ]
        arguments += ["--data.folder", str(data), "--data.batch_size", "8", "--trainer.max_epochs", "4"]
        arguments += ["--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "1", *more]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train.main(arguments)
        return out

    return run


@pytest.fixture(scope="module")
def whole(fit, tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole") / "run")


def test_a_training_leaves_the_net_its_log_and_its_settings(whole):
    net = models.load(whole / "model.safetensors")
    certify(net).raise_if_broken()
    assert fingerprint(net) != fingerprint(PRESETS["tiny"]())
    log = pd.read_csv(whole / "metrics.csv")
    assert log["val_accuracy"].notna().sum() == 4
    assert log["train_loss_step"].notna().sum() == 4 * (52 // 8)
    losses = log["train_loss_epoch"].dropna().tolist()
    assert losses[-1] < losses[0]
    assert {"config.yaml", "model.json", "checkpoints"} <= {path.name for path in whole.iterdir()}
    assert (whole / "checkpoints" / "last.ckpt").is_file()


def test_a_training_repeats_to_the_bit(fit, whole, tmp_path):
    again = fit(tmp_path / "run")
    assert fingerprint(models.load(again / "model.safetensors")) == fingerprint(
        models.load(whole / "model.safetensors")
    )


def test_another_seed_trains_another_net(fit, whole, tmp_path):
    other = fit(tmp_path / "run", "--model.seed", "5", "--trainer.max_epochs", "1")
    assert fingerprint(models.load(other / "model.safetensors")) != fingerprint(
        models.load(whole / "model.safetensors")
    )


def test_the_twin_without_a_wall_is_trained_by_a_flag(fit, tmp_path):
    net = models.load(
        fit(tmp_path / "run", "--model.walled", "false", "--trainer.max_epochs", "1") / "model.safetensors"
    )
    assert net.wall.is_open


def test_an_interrupted_training_goes_on_to_the_same_net(fit, whole, tmp_path):
    out = tmp_path / "run"
    stop = "tests.models.test_wall_survives_training.Interrupt"
    with pytest.raises(RuntimeError, match="power cut"):
        fit(out, f"--trainer.callbacks+={stop}", "--trainer.callbacks.epoch=2")
    assert not (out / "model.safetensors").exists()
    last = out / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 1
    fit(out, "--ckpt_path", str(last))
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]
    pd.testing.assert_frame_equal(pd.read_csv(out / "metrics.csv"), pd.read_csv(whole / "metrics.csv"))
    assert fingerprint(models.load(out / "model.safetensors")) == fingerprint(models.load(whole / "model.safetensors"))


def test_bfloat16_by_a_flag_trains_a_blind_net(fit, tmp_path):
    out = fit(tmp_path / "run", "--trainer.precision", "bf16-mixed", "--trainer.max_epochs", "1")
    certify(models.load(out / "model.safetensors")).raise_if_broken()


# Order and mirroring


def test_each_epoch_uses_every_image_once_in_an_order_of_its_own():
    batches = ShuffledBatches(count=50, batch_size=8, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        drawn = list(batches)
        assert len(drawn) == len(batches) == 6
        assert len({image for batch in drawn for image in batch}) == 48
        orders.append(drawn)
    assert orders[0] == orders[2] != orders[1]


def test_ranks_share_an_epoch_without_overlap():
    parts = [list(ShuffledBatches(100, 8, seed=3, rank=rank, world=3)) for rank in range(3)]
    assert [len(part) for part in parts] == [4, 4, 4]
    used = [image for part in parts for batch in part for image in batch]
    assert len(set(used)) == len(used) == 96
    assert used[:8] == next(iter(ShuffledBatches(100, 8, seed=3)))


def test_mirroring_follows_from_the_batch_and_keeps_labels(data):
    images = open_labelled(data, "train")
    plain, mirrored = Batches(images, SIZE), Batches(images, SIZE, "flip", seed=0)
    batch = list(range(16))
    (x, labels), (y, again), (z, _) = plain[batch], mirrored[batch], mirrored[batch]
    assert torch.equal(y, z)
    assert torch.equal(labels, again)
    assert labels.tolist() == pixels(52, seed=1)[1][:16].tolist()
    kept = [torch.equal(a, b) for a, b in zip(x, y, strict=True)]
    flipped = [torch.equal(a.flip(-1), b) for a, b in zip(x, y, strict=True)]
    assert all(k != f for k, f in zip(kept, flipped, strict=True))
    assert 2 < sum(flipped) < 14
    assert [torch.equal(a, b) for a, b in zip(x, Batches(images, SIZE, "flip", seed=1)[batch][0], strict=True)] != kept


def test_too_few_images_for_a_batch_say_so(fit, tmp_path):
    with pytest.raises(ValueError, match="52 training images are fewer than one batch of 64; lower batch_size"):
        fit(tmp_path / "run", "--data.batch_size", "64")
    assert not (tmp_path / "run" / "model.safetensors").exists()
