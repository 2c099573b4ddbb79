"""Training: the classifier, its image sets, and what it keeps on the way."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from wallcheck import models
from wallcheck.data import ImageSet, normalise


class BlindClassifier(L.LightningModule):
    """Trains a preset: cross-entropy, AdamW, one cycle of the learning rate.

    Nothing re-zeroes the wall: the head has no weight for an unseen cell, so no step can open it.

    Args:
        preset: a name in wallcheck.models.PRESETS.
        walled: False trains the twin without a wall.
        num_classes: number of logits.
        lr: peak learning rate.
        weight_decay: of AdamW.
        seed: of the initial weights.
    """

    def __init__(
        self,
        preset: str = "vgg_small",
        walled: bool = True,
        num_classes: int = 10,
        lr: float = 3e-3,
        weight_decay: float = 0.02,
        seed: int = 0,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.net = models.PRESETS[preset](num_classes=num_classes, walled=walled, seed=seed)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self._step(batch, "val")

    def _step(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        images, labels = batch
        logits = self.net(images)
        loss = cross_entropy(logits, labels)
        accuracy = (logits.argmax(1) == labels).float().mean()
        self.log_dict(
            {f"{stage}_loss": loss, f"{stage}_accuracy": accuracy},
            prog_bar=True,
            on_epoch=True,
            on_step=stage == "train",
            batch_size=len(labels),
            sync_dist=stage == "val",
        )
        return loss

    def configure_optimizers(self):
        optimiser = torch.optim.AdamW(self.net.parameters(), self.hparams.lr, weight_decay=self.hparams.weight_decay)
        steps = max(int(self.trainer.estimated_stepping_batches), 2)
        # The rise ends at step share * steps - 1, by which OneCycleLR divides: 0 for a fifth of 5 steps.
        rise = max(0.2, 1.5 / steps)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.hparams.lr, total_steps=steps, pct_start=rise)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


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


class Batches(Dataset):
    """Whole batches by lists of indices: one slice of a uint8 array instead of a collation of images."""

    def __init__(self, images: ImageSet, flip: bool, seed: int = 0):
        self.pixels = np.asarray(images.pixels)
        self.labels = torch.from_numpy(np.array(images.labels))
        self.flip, self.seed = flip, seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        images = normalise(self.pixels[indices])
        if self.flip:  # decided by the batch, so that a run is repeated by its seed whatever the workers
            draw = torch.Generator().manual_seed(hash((self.seed, *indices)) & 0x7FFFFFFF)
            mirrored = torch.rand(len(images), generator=draw) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return images, self.labels[indices]


class ShuffledBatches(Sampler[list[int]]):
    """Lists of indices: each epoch's order follows from the seed and the epoch alone, so a resumed run
    goes on as the uninterrupted one would. Ranks share an epoch's order and take every world-th batch.
    """

    def __init__(self, count: int, batch_size: int, seed: int, rank: int = 0, world: int = 1):
        self.count, self.batch_size, self.seed, self.rank, self.world = count, batch_size, seed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // (self.batch_size * self.world)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        for number in range(len(self)):
            start = (number * self.world + self.rank) * self.batch_size
            yield order[start : start + self.batch_size].tolist()


class TrainingSets(L.LightningDataModule):
    """The sets `train` and `val` below a folder.

    Args:
        folder: where python -m data_gen wrote its sets.
        batch_size: images per step.
        seed: of order and mirroring.
        workers: loading processes; 0 loads in the main one, which is enough for arrays in memory.
    """

    def __init__(self, folder: str = "data", batch_size: int = 64, seed: int = 0, workers: int = 0):
        super().__init__()
        self.save_hyperparameters(logger=False)  # its seed is not the seed of the weights

    def setup(self, stage: str) -> None:
        folder, seed = Path(self.hparams.folder), self.hparams.seed
        self.train = Batches(ImageSet(folder / "train"), flip=True, seed=seed)
        self.val = Batches(ImageSet(folder / "val"), flip=False)

    def train_dataloader(self) -> DataLoader:
        size, seed = self.hparams.batch_size, self.hparams.seed
        if len(self.train) < size:
            raise ValueError(f"{len(self.train)} training images are fewer than one batch of {size}; lower batch_size")
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return self._loader(self.train, ShuffledBatches(len(self.train), size, seed, rank, world))

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val, BatchSampler(SequentialSampler(self.val), 4 * self.hparams.batch_size, False))

    def _loader(self, data: Batches, batches: Sampler[list[int]]) -> DataLoader:
        return DataLoader(data, sampler=batches, batch_size=None, num_workers=self.hparams.workers)
