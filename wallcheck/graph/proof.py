"""The proof: which pixels no logit can depend on, whatever the input, the weights and the batch; or where the wall leaks.

One pass backward from the logits of each image of a batch (a network may treat an image by its place) tells, for every pixel of
every image and for every cell, whether any path leads from it to them. Where a wall does not hold, one pass forward from the
pixels that ought to be unseen finds the operation at which what they say first spreads over the border.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor
from torch.fx import Node

from wallcheck.geometry import footprint, regions
from wallcheck.graph import lean, reach
from wallcheck.graph._masks import RULES
from wallcheck.graph._nodes import GETITEM, data_nodes, op_of, where
from wallcheck.graph.walls import Walled

ADVICE = {
    "batch_norm": "fold the norm into the convolution before it, or keep it in eval mode with running statistics",
    "group_norm": "its mean is taken over all positions: use a trunk wall, or an earlier layer",
    "instance_norm": "its mean is taken over all positions: use a trunk wall, or an earlier layer",
    "layer_norm": "its mean is taken over positions: use a trunk wall, or an earlier layer",
    "mean": "it averages over all positions: use a trunk wall, or an earlier layer",
    "adaptive_avg_pool2d": "it averages over all positions: use a trunk wall, or an earlier layer",
    "scaled_dot_product_attention": "it lets tokens attend across the wall: use a trunk wall",
    "softmax": "it weighs all positions together: use a trunk wall, or an earlier layer",
    "conv2d": "its windows reach across the wall: hide more cells, use a trunk wall, or an earlier layer",
    "max_pool2d": "its windows reach across the wall: hide more cells, use a trunk wall, or an earlier layer",
}
OTHERWISE = "use a trunk wall, or an earlier layer"


@dataclass(frozen=True)
class Leak:
    """A pixel that reaches a logit though it ought not to, and the operation where its reach first spreads."""

    pixel: tuple[int, int]
    logit: int
    at: str
    advice: str

    def __str__(self) -> str:
        return f"pixel {self.pixel} reaches logit {self.logit}; it first spreads at {self.at}: {self.advice}"


@dataclass(frozen=True, eq=False)
class Proof:
    """unseen_pixels (H, W): no logit of any image depends on them. heard_cells (h, w): cells that some logit may depend on.
    mixes: an operation through which images of one batch meet, "" for none. leak: why less is unseen than the wall wants.
    islands: whether pixels beyond unseen ones are heard, though no window of the features explains it."""

    unseen_pixels: np.ndarray
    heard_cells: np.ndarray
    mixes: str = ""
    leak: Leak | None = None
    islands: bool = False

    def problems(self, walled: Walled) -> list[str]:
        """What is wrong with the wall, in words; nothing if it holds."""
        found = []
        if self.mixes:
            found.append(f"the images of a batch meet at {self.mixes}")
        if (heard := np.argwhere(self.heard_cells & walled.wall.unseen)).size:
            found.append(f"unseen cell {tuple(int(i) for i in heard[0])} reaches a logit")
        if walled.wall.is_open:
            return found
        if not self.unseen_pixels.any():
            found.append(f"no pixel is unseen: {self.leak}" if self.leak else "no pixel is unseen")
        elif self.leak and (walled.kind == "trunk" or self.islands):
            found.append(str(self.leak))
        return found


def prove(walled: Walled) -> Proof:
    """Follow dependence through the graph; nothing that a network says of itself is asked."""
    graph, at = walled.graph, walled.layer
    reach.shaped(graph.run, graph.colours, graph.image_size)
    classes = int(graph.logits.meta["val"].shape[1])
    logits = torch.eye(reach.BATCH, dtype=torch.bool)[:, :, None].expand(-1, -1, classes)
    ways = [reach.backward(graph.run, of_one) for of_one in logits]
    pixels = torch.stack([_pixels(walled, way) for way in ways])
    after = reach.backward(graph.run, logits.any(0), until=at.node).get(at.node)
    heard = torch.zeros(at.form.grid, dtype=torch.bool) if after is None else at.form.cells(after).any(0).any(0)
    own = pixels.diagonal().movedim(-1, 0).numpy()  # of each image's logits, its own pixels
    unseen = ~own.any(0)
    missing, islands = _wanted(walled) & ~unseen, _islands(walled, unseen)
    leak = None
    if missing.any() and not walled.wall.is_open:
        amiss = own & (islands if islands.any() else missing)
        image = int(amiss.any((1, 2)).argmax())
        leak = _located(walled, ways[image], amiss[image])
    return Proof(unseen, heard.numpy(), _mixing(walled, ways, pixels), leak, bool(islands.any()))


def _pixels(walled: Walled, reached: reach.Reached) -> Tensor:
    """(B, H, W): pixels of each image that are reached."""
    found, graph = reached.get(walled.graph.images), walled.graph
    return torch.zeros(reach.BATCH, *graph.image_size, dtype=torch.bool) if found is None else found.any(1)


def _mixing(walled: Walled, ways: list[reach.Reached], pixels: Tensor) -> str:
    """Where the logits of one image come to depend on another image; "" where they do not."""
    for image, found in enumerate(pixels):
        others = torch.arange(reach.BATCH) != image
        if found[others].any():
            return _first_mixing(walled, ways[image], others)
    return ""


def _islands(walled: Walled, unseen: np.ndarray) -> np.ndarray:
    """(H, W): pixels that are heard although unseen ones lie all around them, and that the windows of the features do not
    explain: somebody reads them on a way of its own."""
    parts, count = label(~unseen, structure=np.ones((3, 3)))
    over = footprint(walled.wall.seen, walled.graph.image_size)
    mainland = np.isin(parts, np.unique(parts[over & ~unseen]))
    apart = (parts > 0) & ~mainland
    if count < 2 or not apart.any():
        return np.zeros_like(unseen)
    line = lean.line_of(walled.graph.run, walled.layer.node, walled.wall, walled.graph.image_size)
    return apart & regions(walled.wall, line.layers, walled.graph.image_size).unseen if line else apart


def _first_mixing(walled: Walled, reached: reach.Reached, others: Tensor) -> str:
    """The last operation, going forward, through which the logits of one image come to depend on others of the batch."""
    run = walled.graph.run
    for node in reversed(list(data_nodes(walled.graph.fx, [walled.graph.images]))):
        if op_of(node) not in RULES and any(user in reached and user.target is GETITEM for user in node.users):
            return f"{where(node)} (without a rule, which counts as mixing everything)"
        if node not in reached or node is walled.graph.images:
            continue
        by_image = reached[node].shape[:1] == (reach.BATCH,)  # else one value of all images, or of images and heads
        if not (by_image and reached[node][others].any()) and any(
            each.shape[:1] == (reach.BATCH,) and each[others].any() for each in reach.one_step(run, node, reached[node])
        ):
            return where(node) + (
                "" if op_of(node) in RULES else " (without a rule, which counts as mixing everything)"
            )
    return where(walled.graph.logits)


def _wanted(walled: Walled) -> np.ndarray:
    """(H, W): pixels that ought to be unseen: a trunk wall's own side, and at least some behind a head wall (those over unseen
    cells farthest from the seen ones)."""
    over = footprint(walled.wall.unseen, walled.graph.image_size)
    if walled.kind == "head":
        return over
    if walled.sides:
        start, stop = walled.sides[1 - walled.seen_side]
        wanted = np.zeros(walled.graph.image_size, dtype=bool)
        wanted[(slice(start, stop),) if walled.axis == 2 else (slice(None), slice(start, stop))] = True
        return wanted
    return over


def _located(walled: Walled, reached: reach.Reached, missing: np.ndarray) -> Leak:
    """The leak of the pixel farthest from what is seen."""
    graph = walled.graph
    y, x = _farthest(missing, ~_wanted(walled))
    start = torch.zeros(reach.BATCH, graph.colours, *graph.image_size, dtype=torch.bool)
    start[:, :, y, x] = True
    ahead = reach.forward(graph.run, start)
    logit = int(ahead[graph.logits].any(0).nonzero()[0])
    node = _spreads(walled, ahead, reached)
    return Leak((y, x), logit, where(node), ADVICE.get(op_of(node), OTHERWISE))


def _farthest(among: np.ndarray, seen: np.ndarray) -> tuple[int, int]:
    places = np.argwhere(among)
    others = np.argwhere(seen)
    if not len(others):
        return tuple(int(i) for i in places[0])
    rows = np.abs(places[:, None, 0] - np.unique(others[:, 0])[None]).min(1)
    columns = np.abs(places[:, None, 1] - np.unique(others[:, 1])[None]).min(1)
    return tuple(int(i) for i in places[np.maximum(rows, columns).argmax()])


def _spreads(walled: Walled, ahead: reach.Reached, reached: reach.Reached) -> Node:
    """The first operation on the way to the logits that carries what one pixel says to every position at once; if there is
    none, the one whose windows carry it farthest."""
    grids, widest, found = {}, 0.0, None
    for node in _before_the_wall(walled, ahead, reached):
        mine = ahead.get(node)
        if mine is None or node not in reached or not (mine & reached[node]).any():
            continue
        before = [grids[each] for each in node.all_input_nodes if each in grids]
        grids[node] = share = _share(mine)
        if node is walled.graph.images or not before:
            continue
        if share >= 1 > max(before):
            return node
        if share - max(before) > widest:
            widest, found = share - max(before), node
    return found if found is not None else walled.graph.logits


def _before_the_wall(walled: Walled, ahead: reach.Reached, reached: reach.Reached) -> list[Node]:
    """Nodes up to the layer, if what the pixel says goes through it to the logits: what the head does with seen cells is no
    leak. Else all."""
    nodes, at = list(data_nodes(walled.graph.fx, [walled.graph.images])), walled.layer.node
    if at in nodes and at in ahead and at in reached and (ahead[at] & reached[at]).any():
        return nodes[: nodes.index(at) + 1]
    return nodes


def _share(mask: Tensor) -> float:
    """Share of a value that is reached; moves leave it as it is, wherever they put positions and channels."""
    return float(mask.float().mean())
