"""T8. Metrics that cannot notice: average drop, increase and gain do not change with what a map says on unseen pixels.

They compare the score Y of the image x with the score O of the masked image x * m. In a blind network O is a function
of the seen pixels of x * m, so m on unseen pixels (those under no seen cell's patch) is nowhere in it: exactly, to the
bit. Condition: the normalisation of the map is held fixed. If m is min-max scaled after its unseen part has changed,
a new maximum there rescales the seen part, and the metric moves, though for no good reason.

What can notice: metrics that *rank* pixels. Insert T pixels in order, n of them seen, f(k) the score once k seen ones
are in; an unseen pixel changes nothing but takes a step. With U = T - n unseen pixels

    unseen first:  AUC = ( U f(0) + sum_k f(k) ) / (T + 1)       unseen last:  AUC = ( sum_k f(k) + U f(n) ) / (T + 1)
    unseen at random places:  E AUC = sum_k f(k) / (n + 1), the AUC of the seen pixels alone

so a map that hides its leak at random ranks costs nothing in the mean, and the most that insertion or deletion can
charge for a leak is U (f(n) - f(0)) / (T + 1), however strong the leak is.
"""

import sympy as sp
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from theory.geometries import Geometry
from theory.networks import Head, Stem, apply, finish
from theory.proofs import Check, identity
from theory.runs import Outcome, Run
from theory.showcase import showcase_geometry
from theory.statistics import ZScores, z_score

TITLE = "Average drop, increase and gain cannot notice a leak; insertion and deletion only through ranks"
CLASSES = 5


def average_drop(full, masked):
    """relu(Y - O) / Y, per image."""
    return (full - masked).clamp(min=0) / full


def increase(full, masked):
    """1(O > Y), per image."""
    return (masked > full).double()


def average_gain(full, masked):
    """relu(O - Y) / (1 - Y), per image."""
    return (masked - full).clamp(min=0) / (1 - full)


METRICS = {"average drop": average_drop, "increase": increase, "average gain": average_gain}


def auc_unseen_first(curve, unseen: int):
    """AUC over T + 1 steps when all unseen pixels come first; curve = (f(0), ..., f(n))."""
    return (unseen * curve[0] + sum(curve)) / (unseen + len(curve))


def auc_unseen_last(curve, unseen: int):
    """AUC when all unseen pixels come last."""
    return (unseen * curve[-1] + sum(curve)) / (unseen + len(curve))


def auc_unseen_anywhere(curve):
    """Expected AUC when the unseen pixels take uniformly random places among the seen ones."""
    return sum(curve) / len(curve)


def unseen_pixels(stem: Stem, head: Head) -> Tensor:
    """(H, W) bool: pixels under no seen cell's patch, by folding the seen cells back onto the image."""
    covered = head.covered(stem.grid).float().reshape(1, 1, -1)
    ones = covered.expand(1, stem.kernel**2, -1)
    hits = F.fold(ones, stem.image.shape[1:], stem.kernel, padding=stem.padding, stride=stem.stride)
    return hits[0, 0] == 0


def prove(anywhere=auc_unseen_anywhere, first=auc_unseen_first, last=auc_unseen_last, unseen=(3, 4)) -> list[Check]:
    """The mask's unseen part is nowhere in the score; min-max brings it back; steps spent at each k are equal."""
    return [
        identity("d O / d mask(unseen pixel) = 0, every unseen pixel", *_mask_slopes(unseen)),
        Check("min-max after the change brings it back (the condition is needed)", _rescaling_moves_score()),
        identity("unseen first, unseen last: curve written out step by step", *_written_out(first, last)),
        identity("random places: sum over steps of the hypergeometric law", *_hypergeometric(anywhere)),
    ]


def _tiny_score(mask):
    """Five pixels, convolution of size 2 with two filters, ReLU; the head reads cells 0 and 1, so pixels 0, 1, 2."""
    pixels = [sp.Rational(k, 3) * m for k, m in zip((2, 5, 1, 4, 3), mask, strict=True)]
    filters = ((1, -sp.Rational(1, 2)), (-sp.Rational(2, 3), 1))
    cells = [sp.Max(0, a * pixels[u] + b * pixels[u + 1]) for a, b in filters for u in range(4)]
    logit = 2 * cells[0] - cells[1] + cells[4] + 3 * cells[5]
    return 1 / (1 + sp.exp(-logit))


def _mask_slopes(unseen) -> tuple[list, list]:
    mask = sp.symbols("m0:5", positive=True)
    point = dict(zip(mask, (sp.Rational(k, 7) for k in (5, 2, 6, 3, 1)), strict=True))
    return [sp.diff(_tiny_score(mask), mask[k]).subs(point) for k in unseen], [0] * len(unseen)


def _rescaling_moves_score() -> bool:
    """Is O different after the last pixel's attribution goes from 1 to 4 and the map is min-max scaled again?"""

    def score(attribution):
        low, high = min(attribution), max(attribution)
        return _tiny_score([sp.Rational(a - low, high - low) for a in attribution])

    return abs(sp.N(score([2, 1, 0, 1, 1]) - score([2, 1, 0, 1, 4]))) > sp.Rational(1, 1000)


def _written_out(first, last) -> tuple[list, list]:
    curve, unseen = sp.symbols("f0:4"), 2
    steps_first = [curve[max(0, j - unseen)] for j in range(len(curve) + unseen)]
    steps_last = [curve[min(len(curve) - 1, j)] for j in range(len(curve) + unseen)]
    claimed = [first(curve, unseen), last(curve, unseen)]
    return claimed, [sum(steps) / sp.Integer(len(steps)) for steps in (steps_first, steps_last)]


def _hypergeometric(anywhere) -> tuple[list, list]:
    """P(k seen among the first j of T) = C(n,k) C(T-n, j-k) / C(T,j), averaged over j = 0..T."""
    claimed, derived = [], []
    for n, total in ((1, 3), (2, 5), (3, 7)):
        curve = sp.symbols(f"f0:{n + 1}")
        expected = sp.Integer(0)
        for j in range(total + 1):
            for k in range(min(n, j) + 1):
                ways = sp.binomial(n, k) * sp.binomial(total - n, j - k)
                expected += curve[k] * ways / sp.binomial(total, j) / (total + 1)
        claimed.append(anywhere(curve))
        derived.append(expected)
    return claimed, derived


class BlindScore:
    """One walled network as a function: probability of the class predicted on its image, for a batch of images."""

    def __init__(self, geometry: Geometry, generator: Generator):
        self.stem, self.head = geometry.stem, geometry.head
        shape = self.stem.filters, self.stem.image.shape[0], self.stem.kernel, self.stem.kernel
        scale = self.stem.tau / (shape[1] * shape[2] ** 2) ** 0.5
        self.filters = scale * torch.randn(shape, generator=generator, device=generator.device)
        self.weights = self.head.draw(self.stem.filters, CLASSES, 1, generator)
        plain = self.logits(self.stem.image[None])[0]
        self.chosen, self.temperature = int(plain.argmax()), float(plain.abs().max()) / 3 or 1.0  # probabilities < 1

    def logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes)."""
        maps = F.conv2d(images, self.filters, stride=self.stem.stride, padding=self.stem.padding).relu()
        weights = [w.expand(len(images), -1, -1) for w in self.weights]
        return finish(weights[1:], apply(weights[0], self.head.read(maps)))

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B,), probabilities in float64."""
        return (self.logits(images).double() / self.temperature).softmax(1)[:, self.chosen]


def simulate(run: Run, anywhere=auc_unseen_anywhere, unseen=unseen_pixels) -> Outcome:
    """Bits of scores and metrics under other masks on unseen pixels; insertion with unseen pixels at random places."""
    moved, compared, scores = 0, 0, []
    for index in range(run.geometries):
        geometry = run.geometry("T8", index)
        hidden = unseen(geometry.stem, geometry.head).to(run.device)
        net = BlindScore(geometry, run.generator("T8", "net", index))
        changes, pairs = _metric_changes(net, hidden, run.generator("T8", "masks", index))
        moved, compared = moved + changes, compared + pairs
        scores += _insertion_score(run, index, net, hidden, anywhere)
        run.tick()
    check = Check("metrics that moved with the mask on unseen pixels", moved == 0, f"{moved} of {compared}")
    return Outcome(ZScores.of(scores), (check,), {"strength": _strength_curve(run)})


def _metric_changes(net: BlindScore, hidden: Tensor, generator: Generator, masks: int = 20) -> tuple[int, int]:
    """(metric values that changed, metric values compared) when masks are redrawn on hidden pixels, extremes included."""
    if not hidden.any():
        return 0, 0
    image = net.stem.image
    mask = torch.rand(masks, 1, *hidden.shape, generator=generator, device=image.device)
    other = torch.rand(mask.shape, generator=generator, device=image.device) * 1e3
    full = net(image[None])
    before, after = net(image * mask), net(image * torch.where(hidden, other, mask))
    changes = sum(int((metric(full, before) != metric(full, after)).sum()) for metric in METRICS.values())
    return changes, masks * len(METRICS)


def _insertion_score(run: Run, index: int, net: BlindScore, hidden: Tensor, anywhere) -> list[float]:
    """z of the mean insertion AUC over random places of the unseen pixels, the seen order fixed."""
    generator = run.generator("T8", "order", index)
    order = torch.nonzero(~hidden.flatten())[:, 0]
    order = order[torch.randperm(len(order), generator=generator, device=order.device)]
    rank = torch.full((hidden.numel(),), len(order) + 1, device=order.device)
    rank[order] = torch.arange(1, len(order) + 1, device=order.device)
    inserted = rank.reshape(hidden.shape) <= torch.arange(len(order) + 1, device=order.device)[:, None, None]
    curve = net(net.stem.image * inserted[:, None])
    if not hidden.any() or float(curve.max() - curve.min()) < 1e-6:  # flat: nothing but rounding to test
        return []
    keys = torch.rand(run.draws // 4, hidden.numel(), generator=generator, device=order.device)
    is_seen = keys.argsort(1) < len(order)  # a random arrangement of n seen and U unseen steps
    visited = torch.cat([torch.zeros_like(is_seen[:, :1]), is_seen], 1).cumsum(1)
    return [z_score(curve[visited].mean(1), float(anywhere(curve)))]


def _strength_curve(run: Run) -> dict[str, list[float]]:
    """Metrics of one map whose unseen part is multiplied by 0 to 4: normalisation fixed, and min-max done again."""
    geometry = showcase_geometry(run.device)
    net = BlindScore(geometry, run.generator("T8", "showcase"))
    hidden = unseen_pixels(geometry.stem, geometry.head).to(run.device)
    image, full = geometry.stem.image, net(geometry.stem.image[None])
    fading = torch.linspace(0.3, 1, image.shape[1], device=image.device)[:, None]  # so that masking dims the seen shape
    attribution = fading * image[0] / (fading * image[0]).max()
    rows = {"strength": [], "leak": [], "fixed": [], "rescaled": []}
    for strength in torch.linspace(0, 4, 17).tolist():
        mask = torch.where(hidden, strength * attribution, attribution)
        rows["strength"].append(strength)
        rows["leak"].append(float((mask * hidden).norm() / mask.norm()))
        for name, scaled in (("fixed", mask), ("rescaled", mask / mask.max())):
            rows[name].append(float(average_drop(full, net((image * scaled)[None]))[0]))
    return rows
