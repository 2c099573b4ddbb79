"""Twins of the rescoring methods: one masked image at a time, over the whole image, torch's own interpolate."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate

from tests.reference import twin_of
from tests.reference.basic import parts


def up(map_, size, aligned=False):
    return interpolate(map_[None, None], tuple(size), mode="bilinear", align_corners=aligned)[0, 0]


def stretch(map_):
    low, high = float(map_.min()), float(map_.max())
    return (map_ - low) / (high - low) if high > low else torch.zeros_like(map_)


def after(map_, net, aligned=False):
    """Upsampled, then stretched; a constant map is a constant whatever rounding says."""
    return (
        stretch(up(map_, net.image_size, aligned)) if map_.max() > map_.min() else torch.zeros(*net.image_size).double()
    )


def before(map_, net):
    return up(stretch(map_), net.image_size)


def logit(net, image, target):
    with torch.no_grad():
        return net(image[None])[0, target].item()


def chance(net, image, target):
    with torch.no_grad():
        return net(image[None])[0].softmax(0)[target].item()


def softmax(scores):
    top = max(scores)
    total = sum(math.exp(s - top) for s in scores)
    return [math.exp(s - top) / total for s in scores]


def weighted(weights, A):
    total = torch.zeros_like(A[0])
    for w, a in zip(weights, A, strict=True):
        total += w * a
    return total


def drawn(seed, shape):
    entropy = int(np.random.SeedSequence([seed, 0]).generate_state(1, np.uint64)[0] >> 1)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(entropy), dtype=torch.float64)


@twin_of("scorecam_authors")
def slow_scorecam_authors(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    total = torch.zeros_like(A[0])
    for a in A:
        if a.max() != a.min():
            total += chance(net, image * after(a, net), target) * a
    return total


@twin_of("scorecam_torchcam")
def slow_scorecam_torchcam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    whole = logit(net, image, target)
    return weighted(softmax([logit(net, image * before(a, net), target) - whole for a in A]), A)


def averaged(net, A, target, paint, count):
    """Softmax of the mean over n of y(paint(mask, n))."""
    means = []
    for a in A:
        mask = before(a, net)
        means.append(sum(logit(net, paint(mask, n), target) for n in range(count)) / count)
    return weighted(softmax(means), A)


@twin_of("sscam")
def slow_sscam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    fields = drawn(seed, (10, *net.image_size))
    return averaged(net, A, target, lambda mask, n: image * (mask + 2 * fields[n]), 10)


@twin_of("sscam_input")
def slow_sscam_input(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    fields = drawn(seed, (10, *net.image_size))
    return averaged(net, A, target, lambda mask, n: image * mask + 2 * fields[n], 10)


@twin_of("iscam")
def slow_iscam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    return averaged(net, A, target, lambda mask, n: image * mask * ((n + 1) / 10), 10)


@twin_of("iscam_torchcam")
def slow_iscam_torchcam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    return averaged(net, A, target, lambda mask, n: image * mask * sum((j + 1) / 10 for j in range(n + 1)), 10)


def tenth(G):
    order = sorted(range(len(G)), key=lambda k: -float(G[k].mean()))
    return order[: max(1, round(0.1 * len(G)))]


@twin_of("gscorecam")
def slow_gscorecam(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    chosen = tenth(G)
    weights = softmax([logit(net, image * after(A[k], net, aligned=True), target) for k in chosen])
    return weighted(weights, [A[k] for k in chosen])


@twin_of("gscorecam_code")
def slow_gscorecam_code(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    scores = [0.0] * len(A)
    for k in tenth(G):
        scores[k] = logit(net, image * after(A[k], net, aligned=True), target)
    return weighted(softmax(scores), A)


def blur(image):
    """One pixel at a time, reflected at the border; 51 x 51 and sigma 50 at 224 px."""
    out = torch.empty_like(image)
    for axis, size in ((1, image.shape[1]), (2, image.shape[2])):
        reach, sigma = round(25 * size / 224), 50 * size / 224
        weights = [math.exp(-((o / sigma) ** 2) / 2) for o in range(-reach, reach + 1)]
        out = torch.zeros_like(image)
        for place in range(size):
            for o, w in zip(range(-reach, reach + 1), weights, strict=True):
                read = abs(place + o)
                read = read if read < size else 2 * (size - 1) - read
                out.select(axis, place).add_(image.select(axis, read), alpha=w / sum(weights))
        image = out
    return out


def groups(A, G):
    """Consecutive channels, as torch.chunk(32): runs of ceil(K / 32)."""
    run = math.ceil(len(A) / 32)
    for start in range(0, len(A), run):
        term = torch.zeros_like(A[0])
        for k in range(start, min(start + run, len(A))):
            term += G[k].mean() * A[k]
        yield term.clamp(min=0)


@twin_of("groupcam")
def slow_groupcam(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    behind = blur(image)
    base = chance(net, behind, target)
    total = torch.zeros_like(A[0])
    for term in groups(A, G):
        mask = after(term, net)
        total += max(chance(net, image * mask + behind * (1 - mask), target) - base, 0.0) * term
    return total


@twin_of("groupcam_denoised")
def slow_groupcam_denoised(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    behind = blur(image)
    base = chance(net, behind, target)
    total = torch.zeros_like(A[0])
    for term in groups(A, G):
        cut = torch.where(term > np.percentile(term.numpy(), 70), term, 0.0)
        if cut.max() == cut.min():
            continue
        wide = up(cut, net.image_size)
        mask = (wide - wide.min()) / (wide.max() - wide.min())
        gain = chance(net, image * mask + behind * (1 - mask), target) - base
        total += gain * (cut - wide.min()) / (wide.max() - wide.min())
    return total


@twin_of("clustercam")
def slow_clustercam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    living = [a for a in A if a.abs().max() > 0]
    if not living:
        return torch.zeros_like(A[0])
    centres = [max(living, key=lambda a: float(a.norm()))]
    while len(centres) < min(8, len(living)):
        centres.append(max(living, key=lambda a: min(float((a - c).norm()) for c in centres)))
    for _ in range(20):
        owner = [min(range(len(centres)), key=lambda c: float((a - centres[c]).norm())) for a in living]
        for c in range(len(centres)):
            mine = [a for a, o in zip(living, owner, strict=True) if o == c]
            centres[c] = sum(mine) / len(mine) if mine else centres[c]
    means = [centres[c] for c in range(len(centres)) if c in owner]
    scores = [logit(net, image * after(m, net), target) for m in means]
    if len(means) == 1:
        return means[0]
    return means[scores.index(max(scores))] - means[scores.index(min(scores))]


def slow_opticam_of(net, image, target, steps, paint, check=None):
    A, _, _ = parts(net, image, target)
    A = A.clamp(min=0)
    u = torch.full((len(A),), 0.5, dtype=torch.float64)
    mean, square, loss_before = torch.zeros_like(u), torch.zeros_like(u), 1e10
    whole = logit(net, image, target)
    for step in range(1, steps + 1):
        leaf = u.clone().requires_grad_()
        wide = up((leaf.softmax(0)[:, None, None] * A).sum(0), net.image_size)
        spread = wide.max() - wide.min()
        mask = (wide - wide.min()) / spread if A.amax() > 0 and spread > 0 else wide * 0
        loss = whole - net(paint(image, mask)[None])[0, target]
        (g,) = torch.autograd.grad(loss, leaf)
        if check and (step - 1) % check == 0:
            if loss.item() > loss_before:
                break
            loss_before = loss.item()
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
        u = u - 0.1 * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
    return weighted(u.softmax(0).tolist(), A)


@twin_of("opticam")
def slow_opticam(net, image, target, seed):
    return slow_opticam_of(net, image, target, 100, lambda x, m: x * m)


@twin_of("opticam_authors")
def slow_opticam_authors(net, image, target, seed):
    """The mask lies on pixels p = x sd + mean in [0, 1]: (p m - mean) / sd = x m - (1 - m) mean / sd."""
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    black = torch.tensor([-m / d for m, d in zip(mean, deviation, strict=True)], dtype=torch.float64)[:, None, None]
    return slow_opticam_of(net, image, target, 50, lambda x, m: x * m + black * (1 - m), check=5)


def resolutions(net, image):
    """The last activations before each change of size, and the target layer's."""
    kept, x = [], image[None]
    with torch.no_grad():
        for number, module in enumerate(net.features):
            y = module(x)
            if isinstance(module, nn.MaxPool2d):
                assert number > 0
                kept.append(x[0])
            x = y
    return [*kept, x[0]]


def slow_polycam_of(net, image, target, weight):
    product = None
    for A in reversed(resolutions(net, image)):
        R = torch.zeros_like(A[0])
        for a in A:
            low, high = np.percentile(a.numpy(), 0.1), np.percentile(a.numpy(), 99.9)
            mask = ((a - low) / high).clamp(0, 1) if high > 0 else torch.zeros_like(a)
            R += weight(up(mask, net.image_size)) * a
        R = R.clamp(min=0)
        if product is not None:
            local = up(up(R, product.shape), R.shape)
            R = torch.where(local == 0, 0.0, R / torch.where(local == 0, 1.0, local)) * up(product, R.shape)
        product = R
    return up(product, net.image_size)


@twin_of("polycam_plus")
def slow_polycam_plus(net, image, target, seed):
    return slow_polycam_of(net, image, target, lambda m: chance(net, image * m, target))


@twin_of("polycam_minus")
def slow_polycam_minus(net, image, target, seed):
    whole = chance(net, image, target)
    return slow_polycam_of(net, image, target, lambda m: max(whole - chance(net, image * (1 - m), target), 0.0))


@twin_of("polycam")
def slow_polycam(net, image, target, seed):
    whole = chance(net, image, target)
    return slow_polycam_of(
        net,
        image,
        target,
        lambda m: max(chance(net, image * m, target) + whole - chance(net, image * (1 - m), target), 0.0),
    )
