"""Auditing as prediction: one shard of rows per batch, and a Lightning that keeps quiet and can be interrupted."""

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor, nn
from torch.utils.data import Dataset

from wallcheck.auditing import Measured, measure
from wallcheck.cams import Method
from wallcheck.data import ImageSet, PhotoFolder
from wallcheck.evidence import Evidence
from wallcheck.lit.ranks import Ranks
from wallcheck.metrics import Metric
from wallcheck.models import BlindNet
from wallcheck.results import Holdings


@contextmanager
def quiet() -> Iterator[None]:
    """No banners, tips and advice from Lightning inside the block: each would be printed once per audit job."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C in the block raises KeyboardInterrupt, where Lightning ends the process, and still works after it,
    where Lightning leaves it switched off."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as ended:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from ended


BARE: dict[str, Any] = dict(
    logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False
)


def flags_of(trainer: dict[str, Any], nets: Iterable[nn.Module]) -> dict[str, Any]:
    """Flags of lightning.Trainer: those given and, where they name no accelerator, the one that the nets are on; the CPU if they
    are not all on one. A GPU is used where it is asked for, by a flag or by a net that lies on it; never because it is there."""
    if "accelerator" in trainer:
        return trainer
    places = {tensor.device for net in nets for tensor in (*net.parameters(), *net.buffers())}
    place = places.pop() if len(places) == 1 else torch.device("cpu")
    where = {"cuda": dict(accelerator="gpu", devices=[place.index or 0]), "mps": dict(accelerator="mps", devices=1)}
    return where.get(place.type, dict(accelerator="cpu")) | trainer


def device_of(trainer: dict[str, Any]) -> torch.device:
    """Where this process works under these flags of lightning.Trainer."""
    with quiet():
        return L.Trainer(**BARE, **trainer).strategy.root_device


@contextmanager
def on_device(nets: Iterable[nn.Module], device: torch.device) -> Iterator[None]:
    """The nets on the device inside the block, so that certificate, audit and examples all run there; back where they were after
    it, whatever happens."""
    before = {net: next((each.device for each in (*net.parameters(), *net.buffers())), device) for net in nets}
    try:
        for net, place in before.items():
            if place != device:
                net.to(device)
        yield
    finally:
        for net, place in before.items():
            if place != device:
                net.to(place)


class Numbered(Dataset):
    """(image (3, H, W), its number) for the images of a set that are still to be audited."""

    def __init__(self, images: ImageSet | PhotoFolder, numbers: Sequence[int]):
        self.source, self.numbers = images, list(numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.source.images([self.numbers[place]])[0], self.numbers[place]


class Auditor(L.LightningModule):
    """One net's audit on one image set as a prediction: batch -> rows, or None where another process was here before.

    `Trainer.predict` shards without repeating an image, so several devices or nodes need flags only.
    Use a Trainer with inference_mode=False, since methods differentiate. names: of net and image set.
    The nets are on the device already, see `on_device`. settings: keywords of Evidence. labels: classes to explain, by image number; None the predicted ones.
    wanted: the keys (method, view, on, metric) of every image; held: what the folder holds of them.
    """

    def __init__(
        self,
        net: BlindNet,
        blind: BlindNet,
        work: tuple[Sequence[Method], Sequence[Metric]],
        names: tuple[str, str],
        settings: dict,
        labels: np.ndarray | None,
        wanted: frozenset,
        held: Holdings,
    ):
        super().__init__()
        self.nets = net, blind  # not as parts: Lightning would move them to the CPU after each job
        self.names = names
        self.methods, self.metrics = work
        self.settings, self.labels, self.wanted, self.held = settings, labels, wanted, held

    def predict_step(self, batch: tuple[Tensor, Tensor], _: int) -> Measured | None:
        self.held.look()
        places = [n for n, image in enumerate(batch[1].tolist()) if self.held.missing(image, self.wanted)]
        if not places:
            return None
        images, numbers = batch[0][places], batch[1][places].tolist()
        targets = None if self.labels is None else torch.from_numpy(np.asarray(self.labels)[numbers])
        net, blind = self.nets
        evidence = Evidence(net, images, targets, **self.settings)
        return measure(evidence, self.methods, self.metrics, blind, *self.names, numbers)


class ShardWriter(BasePredictionWriter):
    """Keeps each batch's rows as soon as they are made: an interrupted audit loses one batch.

    held: what the folder holds; nothing is written twice. ranks: watched from the first batch on.
    """

    def __init__(self, held: Holdings, ranks: Ranks, progress: Callable[[int], None] | None = None):
        super().__init__(write_interval="batch")
        self.held, self.ranks, self.progress = held, ranks, progress

    def on_predict_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        # Lightning only notes a SIGTERM, for checkpoints; here nothing is lost by ending at once.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.ranks.watch(trainer)

    def write_on_batch_end(self, trainer, module, prediction, batch_indices, batch, batch_idx, dataloader_idx) -> None:
        if prediction is not None:
            self.held.keep(prediction.rows, prediction.failures)
        if self.progress is not None:
            self.progress(len(batch[1]) * trainer.world_size)
