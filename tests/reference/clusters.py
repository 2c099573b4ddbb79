"""Twins of the rescoring methods that choose or join channels, and of the information bottleneck."""

import numpy as np
import torch
from torch.nn.functional import conv2d, interpolate, pad

from tests.reference import twin_of
from tests.reference.basic import parts
from tests.reference.local import last_of_each_size, tensors
from tests.reference.pixel import draws_of
from tests.reference.rescoring import after, chance, stretch, up, weighted


@twin_of("faster_scorecam")
def slow_faster_scorecam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    chosen = sorted(range(len(A)), key=lambda k: -float(np.std(A[k].numpy())))[:10]
    weights = []
    for k in chosen:
        wide = up(A[k], net.image_size)
        spread = wide.max() - wide.min() if A[k].max() > A[k].min() else 0
        weights.append(chance(net, image * (wide / spread if spread > 0 else wide), target))
    return weighted(weights, [A[k] for k in chosen])


def otsu(values):
    """Every value tried as the largest of the lower class."""
    best, cut = -1.0, None
    for threshold in sorted(set(values))[:-1]:
        low, high = [v for v in values if v <= threshold], [v for v in values if v > threshold]
        between = len(low) * len(high) * (sum(low) / len(low) - sum(high) / len(high)) ** 2
        if between > best:
            best, cut = between, threshold
    return cut


def slow_sise_of(net, image, target, chosen):
    total = None
    for A, G in last_of_each_size(tensors(net, image, target)):
        map_ = torch.zeros(net.image_size, dtype=torch.float64)
        for k in chosen([float(g.mean()) for g in G]):
            mask = after(A[k], net)
            map_ += chance(net, image * mask, target) * mask
        map_ = stretch(map_)
        if total is None:
            total = map_
        else:
            cut = otsu(map_.flatten().tolist())
            total = (total + map_) * (map_ > cut if cut is not None else 0.0)
    return total


@twin_of("sise")
def slow_sise(net, image, target, seed):
    return slow_sise_of(net, image, target, lambda a: [k for k in range(len(a)) if a[k] > 0])


@twin_of("adasise")
def slow_adasise(net, image, target, seed):
    def chosen(a):
        cut = otsu([value for value in a if value > 0]) or 0.0
        return [k for k in range(len(a)) if a[k] > cut]

    return slow_sise_of(net, image, target, chosen)


def complete_linkage(distance, most):
    """Lists of numbers: the two nearest groups are joined as long as their farthest members are no more than `most` apart."""
    groups = [[k] for k in range(len(distance))]
    while len(groups) > 1:
        pairs = [
            (max(distance[i][j] for i in groups[a] for j in groups[b]), a, b)
            for a in range(len(groups))
            for b in range(a)
        ]
        least, a, b = min(pairs)
        if least > most:
            break
        groups[b] = groups[b] + groups.pop(a)
    return groups


@twin_of("vitcx")
def slow_vitcx(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    masks = [after(a, net) for a in A if a.max() > a.min()]
    if not masks:
        return torch.zeros(net.image_size, dtype=torch.float64)
    units = [(m / m.norm()).flatten() for m in masks]
    distance = [[1 - float(a @ b) for b in units] for a in units]
    joined = [stretch(sum(masks[k] for k in group)) for group in complete_linkage(distance, 0.1)]
    noise = 0.1 * torch.randn(image.shape, generator=draws_of(seed, 61), dtype=torch.float64)
    total, cover = torch.zeros_like(masks[0]), sum(joined)
    for mask in joined:
        hidden = noise * (1 - mask)
        score = chance(net, image * mask + hidden, target) - chance(net, image + hidden, target)
        total += (score + chance(net, image, target)) * mask
    return torch.where(cover > 0, total / torch.where(cover > 0, cover, 1.0), 0.0) / len(joined)


def k_means(points, count):
    """(clusters, d) numpy: as `clustercam` starts and goes on."""
    centres = [max(points, key=np.linalg.norm)]
    while len(centres) < min(count, len(points)):
        centres.append(max(points, key=lambda p: min(np.linalg.norm(p - c) for c in centres)))
    for _ in range(20):
        owner = [int(np.argmin([np.linalg.norm(p - c) for c in centres])) for p in points]
        for c in range(len(centres)):
            mine = [p for p, o in zip(points, owner, strict=True) if o == c]
            centres[c] = sum(mine) / len(mine) if mine else centres[c]
    return [centres[c] for c in range(len(centres)) if c in owner]


@twin_of("tis")
def slow_tis(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    h, w = A.shape[1:]
    order = torch.randperm(h * w, generator=draws_of(seed, 62)).tolist()
    place = {cell: n for n, cell in enumerate(order)}
    points = [a.flatten().numpy() for a in A if a.abs().max() > 0]
    if not points:
        return torch.zeros_like(A[0])
    total, cover = torch.zeros(h * w, dtype=torch.float64), torch.zeros(h * w, dtype=torch.float64)
    for mean in k_means(points, 64):
        cells = sorted(range(h * w), key=lambda u: (-mean[u], place[u]))[: h * w // 2]
        mask = torch.zeros(h * w, dtype=torch.float64)
        mask[cells] = 1
        pixels = interpolate(mask.view(1, 1, h, w), net.image_size, mode="nearest")[0, 0]
        total += chance(net, image * pixels, target) * mask
        cover += mask
    return torch.where(cover > 0, total / torch.where(cover > 0, cover, 1.0), 0.0).view(h, w)


def blurred_cells(maps):
    """(K, h, w): 5 x 5 Gaussian of sigma 1 as the authors' layer, reflected."""
    place = torch.arange(5, dtype=torch.float64) - 2
    kernel = torch.exp(-(place[:, None] ** 2 + place**2) / 2)
    wide = pad(maps[:, None], (2, 2, 2, 2), mode="reflect")
    return conv2d(wide, (kernel / kernel.sum())[None, None])[:, 0]


@twin_of("iba")
def slow_iba(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    draw, alpha = draws_of(seed, 42), torch.full_like(A, 5.0).requires_grad_()
    optimiser = torch.optim.Adam([alpha], lr=1.0)
    alive = torch.stack([(a.max() > a.min()) * torch.ones_like(a) for a in A])
    mean = torch.stack([torch.full_like(a, float(np.mean(a.numpy()))) for a in A])
    std = torch.stack([torch.full_like(a, float(np.std(a.numpy())) if a.max() > a.min() else 1.0) for a in A])
    for _ in range(10):
        optimiser.zero_grad()
        share = blurred_cells(alpha.sigmoid())
        variance, middle = (1 - share) ** 2, share * (A - mean) / std
        nats = -0.5 * (1 + variance.log() - middle**2 - variance) * alive
        noise = torch.randn(10, *A.shape, generator=draw, dtype=torch.float64)
        loss = 10 * nats.mean()
        for e in noise:
            z = share * A + (1 - share) * (mean + alive * std * e)
            loss = loss - net.logits_from(z[None])[0].log_softmax(0)[target] / 10
        loss.backward()
        optimiser.step()
    return nats.detach().sum(0)
