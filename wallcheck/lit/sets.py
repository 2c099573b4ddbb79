"""What a training is fed: whole batches, in an order that follows from the seed."""

from collections.abc import Iterator
from typing import Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from wallcheck.data import normalise
from wallcheck.labelled import AUGMENTATIONS, Labelled, augmented, open_labelled


class Batches(Dataset):
    """Whole batches by lists of indices: one slice of a uint8 array instead of a collation of images."""

    def __init__(self, images: Labelled, size: int, augmentation: str = "none", seed: int = 0):
        self.images, self.size, self.how, self.seed = images, size, AUGMENTATIONS[augmentation], seed
        self.labels = torch.from_numpy(np.array(images.labels, dtype=np.int64))
        if not self.how.crop:
            images.check(size)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        # Chance is decided by the batch, so that a run is repeated by its seed whatever the workers.
        draw = torch.Generator().manual_seed(hash((self.seed, *indices)) & 0x7FFFFFFF)
        return normalise(augmented(self.images, indices, self.size, self.how, draw)), self.labels[indices]


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
    """The images `train` and `val` below a folder, at the size of the net that is trained.

    Args:
        folder: train/ and val/, each an image set of python -m data_gen or a folder for each class; or CIFAR's layout.
        batch_size: images per step and device.
        augmentation: none, flip, or random_area: a part of 0.1 to 1 of the image with an aspect of 0.8 to 1.25, and flip.
        seed: of order and augmentation.
        workers: loading processes; 0 loads in the main one, which is enough for arrays in memory.
    """

    def __init__(
        self,
        folder: str = "data",
        batch_size: int = 64,
        augmentation: Literal["none", "flip", "random_area"] = "flip",
        seed: int = 0,
        workers: int = 0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)  # its seed is not the seed of the weights

    def setup(self, stage: str) -> None:
        folder, net = self.hparams.folder, self.trainer.lightning_module.net
        parts = {part: open_labelled(folder, part) for part in ("train", "val")}
        for images in parts.values():
            self._check(images, net.graph.classes)
        size = net.image_size[0]
        self.train = Batches(parts["train"], size, self.hparams.augmentation, self.hparams.seed)
        self.val = Batches(parts["val"], size)
        self.classes = parts["train"].classes

    def _check(self, images: Labelled, logits: int) -> None:
        """Raise ValueError unless the net has a logit for every class."""
        found = max(len(images.classes), int(images.labels.max(initial=-1)) + 1)
        if found > logits:
            raise ValueError(
                f"{images.name} has {found} classes, the net {logits} logits; use --model.num_classes {found}"
            )

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
