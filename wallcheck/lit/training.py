"""Training: the classifier, and what it keeps on the way."""

from collections.abc import Sequence
from pathlib import Path

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.nn.functional import cross_entropy

from wallcheck import models
from wallcheck.regularisers import Regulariser

Batch = tuple[Tensor, Tensor]


class BlindClassifier(L.LightningModule):
    """Trains a preset: cross-entropy, AdamW, one cycle of the learning rate.

    Nothing re-zeroes the wall: the head has no weight for an unseen cell, so no step can open it.

    Args:
        preset: a name in wallcheck.models.PRESETS.
        walled: False trains the twin without a wall.
        num_classes: number of logits; the preset's own, or as many as the images have classes, if not given.
        lr: peak learning rate.
        weight_decay: of AdamW.
        seed: of the initial weights.
        image_size: height and width in pixels; the preset's own if not given.
        wall: side:cells or side:share, such as left:1/2 (the share of unseen pixels, taken to the nearest wall that
            fits), or none; the preset's own if not given.
        regulariser: what is added to the loss, such as interpretable_gradients.
    """

    def __init__(
        self,
        preset: str = "vgg_small",
        walled: bool = True,
        num_classes: int | None = None,
        lr: float = 3e-3,
        weight_decay: float = 0.02,
        seed: int = 0,
        image_size: int | None = None,
        wall: str | None = None,
        regulariser: Regulariser | None = None,
    ):
        super().__init__()
        self.save_hyperparameters(ignore="regulariser")
        if wall is not None and not walled:
            raise ValueError(f"wall is {wall!r} and walled is false; leave one of them out")
        given = dict(num_classes=num_classes, image_size=image_size, wall=wall)
        given = {name: value for name, value in given.items() if value is not None}
        self.net = models.PRESETS[preset](walled=walled, seed=seed, **given)
        self.regulariser = regulariser

    def on_fit_start(self) -> None:
        """The names of the classes travel with the net, in the order of its logits."""
        if classes := getattr(self.trainer.datamodule, "classes", ()):
            self.net.description["classes"] = list(classes)

    def forward(self, images: Tensor) -> Tensor:
        """What training and validation run: logits (B, D), from the visible part of the images."""
        return self.net.shortcut(images)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        images, labels = batch
        if self.regulariser is None:
            return self._measure(self(images), labels, "train")
        logits, penalty = self.regulariser(self, images, labels, self._loss_scale)
        self.log("train_regulariser", penalty, on_epoch=True, on_step=True, batch_size=len(labels))
        return self._measure(logits, labels, "train") + self.regulariser.weight * penalty

    def validation_step(self, batch: Batch, _: int) -> None:
        images, labels = batch
        self._measure(self(images), labels, "val")

    @property
    def _loss_scale(self) -> float:
        """What 16-bit training multiplies the loss by, so that small gradients survive."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return scaler.get_scale() if scaler is not None else 1.0

    def _measure(self, logits: Tensor, labels: Tensor, stage: str) -> Tensor:
        """The loss; it, accuracy (top-1) and, with more than five classes, top-5 accuracy in validation are logged."""
        loss = cross_entropy(logits, labels)
        found = {"loss": loss, "accuracy": within(logits, labels, 1)}
        if stage == "val" and logits.shape[1] > 5:
            found["top5"] = within(logits, labels, 5)
        self.log_dict(
            {f"{stage}_{name}": value for name, value in found.items()},
            prog_bar=True,
            on_epoch=True,
            on_step=stage == "train",
            batch_size=len(labels),
            sync_dist=stage == "val",
        )
        return loss

    def configure_optimizers(self):
        optimiser = torch.optim.AdamW(self.net.parameters(), self.hparams.lr, weight_decay=self.hparams.weight_decay)
        steps = max(int(self.trainer.estimated_stepping_batches), 6)  # with 5, the rise would end on the step it starts
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.hparams.lr, total_steps=steps, pct_start=0.2)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def within(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Share of labels (B,) among the k largest of logits (B, D).

    >>> within(torch.tensor([[3., 2., 1.], [3., 2., 1.]]), torch.tensor([1, 2]), 2)
    tensor(0.5000)
    """
    return (logits.topk(k).indices == labels[:, None]).any(1).float().mean()


class SaveNet(Callback):
    """Writes the trained net as safetensors into the trainer's folder when fitting ends."""

    def __init__(self, name: str = "model.safetensors"):
        self.name = name

    def on_fit_end(self, trainer: L.Trainer, module: BlindClassifier) -> None:
        if trainer.is_global_zero:
            models.save(module.net, Path(trainer.default_root_dir) / self.name)


class Snapshots(Callback):
    """Keeps the net before training and after the steps named: snapshots/step-000016.safetensors."""

    def __init__(self, steps: Sequence[int]):
        self.steps = set(steps)

    def on_train_start(self, trainer: L.Trainer, module: BlindClassifier) -> None:
        self._keep(trainer, module)

    def on_train_batch_end(self, trainer: L.Trainer, module: BlindClassifier, *_: object) -> None:
        self._keep(trainer, module)

    def _keep(self, trainer: L.Trainer, module: BlindClassifier) -> None:
        if trainer.global_step in self.steps and trainer.is_global_zero:
            name = f"step-{trainer.global_step:06d}.safetensors"
            models.save(module.net, Path(trainer.default_root_dir) / "snapshots" / name)


@rank_zero_only
def keep_log(logger: CSVLogger, checkpoint: str | Path) -> None:
    """A training resumed from a checkpoint goes on in the log it left; Lightning would begin another."""
    path = Path(logger.log_dir) / "metrics.csv"
    if path.is_file():
        log = pd.read_csv(path)
        before = log[log["step"] < torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"]]
        writer = logger.experiment  # removes the file
        before.to_csv(path, index=False)
        writer.metrics_keys = list(log.columns)
