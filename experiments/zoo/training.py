"""Training a model behind a wall: its own modules compute, in training mode, what the walled net computes in eval mode.

head wall            a hook hands on the seen cells of the layer alone
trunk wall, maps     the seen side of the image alone goes in; where the head reads places, a hook puts 0 for the other side's cells
trunk wall, tokens   a hook drops the unseen tokens where they are made, which is what masked attention leaves of them
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from wallcheck.keeping import seeded
from wallcheck.labelled import open_labelled
from wallcheck.lit.sets import Batches, ShuffledBatches
from wallcheck.models import BlindNet

TOKENS = {"VisionTransformer": "encoder.dropout"}  # class -> the module that gives the first layer all its tokens
BATCH, RATE, DECAY = 32, 2e-3, 0.02


@contextmanager
def behind(model: nn.Module, net: BlindNet) -> Iterator[Callable[[Tensor], Tensor]]:
    """images -> logits of the model behind the wall of `net`, which `blind` made of it; the model is left without hooks."""
    walled, form = net.graph.walled, net.graph.form
    emptied = any(node.target is torch.ops.aten.where.ScalarOther for node in [walled.handed])
    whole, layer = (lambda images: images), model.get_submodule(walled.layer.name)
    if walled.kind == "head":
        change = _zeroed(net) if emptied else _selected(net)
    elif form.axes == "tokens":
        layer, change = model.get_submodule(_tokens_of(model)), _selected(net)
    else:
        start, stop = walled.sides[walled.seen_side]
        whole = lambda images: images.narrow(walled.axis, start, stop - start)  # noqa: E731
        change = _spread(net) if emptied else (lambda value: value)
    handle = layer.register_forward_hook(lambda module, inputs, value: change(value))
    try:
        yield lambda images: model(whole(images))
    finally:
        handle.remove()


def _tokens_of(model: nn.Module) -> str:
    name = TOKENS.get(type(model).__name__)
    if name is None:
        raise ValueError(
            f"where {type(model).__name__} makes its tokens is not known; add it to TOKENS, or train with a head wall"
        )
    return name


def _selected(net: BlindNet) -> Callable[[Tensor], Tensor]:
    """Seen cells only, and the tokens before them."""
    form, wall = net.graph.form, net.wall
    if form.axes == "tokens":
        cells = form.prefix + torch.from_numpy(wall.seen.reshape(-1).nonzero()[0])
        kept = torch.cat([torch.arange(form.prefix), cells])
        return lambda value: value[:, kept.to(value.device)]
    (top, bottom), (left, right) = wall.box
    if form.axes == "last":
        return lambda value: value[:, top:bottom, left:right]
    return lambda value: value[:, :, top:bottom, left:right]


def _zeroed(net: BlindNet) -> Callable[[Tensor], Tensor]:
    """0 in place of unseen cells."""
    form, seen = net.graph.form, torch.from_numpy(net.wall.seen.copy())
    return lambda value: form.value(form.cells(value) * seen.to(value.device), form.rest(value))


def _spread(net: BlindNet) -> Callable[[Tensor], Tensor]:
    """The seen side's cells in their places, 0 in the others."""
    form, ((top, bottom), (left, right)) = net.graph.form, net.wall.box
    rows, columns = form.grid
    around = (left, columns - right, top, rows - bottom)
    return lambda value: form.value(nn.functional.pad(form.cells(value), around))


def fitted(model: nn.Module, net: BlindNet, folder: Path, epochs: int, seed: int, device: str = "cpu") -> nn.Module:
    """The model trained behind the wall of net on folder / train: `fit`; in eval mode after it."""
    batches = Batches(open_labelled(folder, "train"), net.image_size[0], "flip", seed)
    with behind(model.to(device), net) as logits_of:
        return fit(model, logits_of, batches, epochs, seed)


def fit(
    model: nn.Module,
    logits_of: Callable[[Tensor], Tensor],
    batches: Batches,
    epochs: int,
    seed: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> nn.Module:
    """model trained on these batches, in eval mode after it: cross-entropy, AdamW, one cycle. logits_of: what runs it; tell:
    told after each step how many of how many are done."""
    order, device = ShuffledBatches(len(batches), BATCH, seed), next(model.parameters()).device
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    steps = max(epochs * len(order), 6)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.2)
    with seeded(seed, device):
        for epoch in range(epochs):
            order.set_epoch(epoch)
            for number, numbers in enumerate(order):
                images, labels = (each.to(device) for each in batches[numbers])
                optimiser.zero_grad()
                cross_entropy(logits_of(images), labels).backward()
                optimiser.step()
                cycle.step()
                tell(epoch * len(order) + number + 1, epochs * len(order))
    return model.eval()


def accuracy(model: nn.Module, net: BlindNet, folder: Path) -> float:
    """Share of folder / val that the model behind the wall of net tells right."""
    batches = Batches(open_labelled(folder, "val"), net.image_size[0])
    device, right = next(model.parameters()).device, 0
    with behind(model.eval(), net) as logits_of, torch.no_grad():
        for start in range(0, len(batches), 4 * BATCH):
            images, labels = batches[list(range(start, min(start + 4 * BATCH, len(batches))))]
            right += int((logits_of(images.to(device)).argmax(1).cpu() == labels).sum())
    return right / len(batches)
