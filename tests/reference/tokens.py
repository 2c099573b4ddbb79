"""Twins of methods that go by tokens: by transitions between them, by what a block makes of each, by one patch alone."""

import math

import torch

from tests.nets import HEADS
from tests.reference import twin_of
from tests.reference.attention import eye, mean, times
from tests.reference.vit import Net, Plain, told

# -- a factor of the class ------------------------------------------------------------------------


def class_factor(net, image, target, steps=20):
    hand, total = Net(net), 0
    for step in range(steps):
        blocks = hand.blocks((step / (steps - 1) * image).requires_grad_())
        total = total + torch.autograd.grad(hand.logits(blocks[-1].left)[target], blocks[-1].A)[0]
    return mean((total / steps).clamp(min=0))


@twin_of("tam")
def slow_tam(net, image, target, seed):
    hand, blocks, _ = told(net, image, target)
    state = hand.row(mean(blocks[-1].A))
    for block in blocks[-2::-1]:
        state = sum(share * row for share, row in zip(state, mean(block.A), strict=True)) + state
    return hand.cells(state * hand.row(class_factor(net, image, target)))


@twin_of("bt_head")
def slow_bt_head(net, image, target, seed):
    hand, blocks, slopes = told(net, image, target)
    R = eye(len(hand.seen))
    for block, G in zip(blocks, slopes, strict=True):
        weights = [times(block.A[h].T, G[h]).abs().mean().item() for h in range(HEADS)]
        R = R + times(sum(weights[h] / sum(weights) * block.A[h] for h in range(HEADS)), R)
    return hand.cells(hand.row(R * class_factor(net, image, target)))


def moved(hand, block, number):
    """(T, C): the projection of each token's values, all heads, without bias."""
    return torch.cat(list(block.v), 1) @ hand.w[f"blocks.{number}.projection.weight"].T


@twin_of("bt_token")
def slow_bt_token(net, image, target, seed):
    hand, blocks, _ = told(net, image, target)
    R = eye(len(hand.seen))
    for number, block in enumerate(blocks):
        longer = [
            one.norm() / other.norm() for one, other in zip(moved(hand, block, number), block.entered, strict=True)
        ]
        R = R + times(torch.stack([row * torch.stack(longer) for row in mean(block.A)]), R)
    return hand.cells(hand.row(R * class_factor(net, image, target)))


# -- tokens ---------------------------------------------------------------------------------------


@twin_of("attcat")
def slow_attcat(net, image, target, seed):
    hand, blocks, slopes = told(net, image, target, names=("entered",))
    T, total = len(hand.seen), torch.zeros(len(hand.seen), dtype=torch.float64)
    for block, G in zip(blocks, slopes, strict=True):
        for i in range(T):
            share = block.A[:, :, i].sum() / (HEADS * T)
            total[i] += share * (block.entered[i] * G[i]).sum()
    return hand.cells(total)


def transformed(before, after):
    cosines = [math.exp(float(a @ b) / float(a.norm() * b.norm())) for a, b in zip(before, after, strict=True)]
    lengths = [float(b.norm() / a.norm()) for a, b in zip(before, after, strict=True)]
    weights = [length * len(cosines) * c / sum(cosines) for length, c in zip(lengths, cosines, strict=True)]
    return torch.tensor(weights, dtype=torch.float64)


@twin_of("tokentm")
def slow_tokentm(net, image, target, seed):
    hand, blocks, slopes = told(net, image, target)
    T = len(hand.seen)
    C = torch.diag(torch.stack([token.norm() for token in blocks[0].entered]))
    for number, (block, G) in enumerate(zip(blocks, slopes, strict=True)):
        values = torch.diag(transformed(block.entered, moved(hand, block, number)))
        mixing = mean([G[h].clamp(min=0) * times(block.A[h], values) for h in range(HEADS)])
        C = times(eye(T) + mixing, C)
        C = times(eye(T) + torch.diag(transformed(block.between, block.left - block.between)), C)
    return hand.cells(hand.row(C))


def channels(heads):
    """(T, heads d)."""
    return torch.cat(list(heads), 1)


@twin_of("gradeclip")
def slow_gradeclip(net, image, target, seed):
    hand, blocks, slopes = told(net, image, target, names=("o",))
    block, weights = blocks[-1], hand.row(channels(slopes[-1]))
    query, keys = hand.row(channels(block.q)), channels(block.k)[hand.prefix :]
    cosines = [float(query @ key / (query.norm() * key.norm())) for key in keys]
    low, high = min(cosines), max(cosines)
    values = channels(block.v)[hand.prefix :]
    found = [(c - low) / (high - low) * float(weights @ v) for c, v in zip(cosines, values, strict=True)]
    return torch.tensor(found, dtype=torch.float64).view(net.wall.seen.shape)


@twin_of("gradeclip_softmaxed")
def slow_gradeclip_softmaxed(net, image, target, seed):
    hand, blocks, slopes = told(net, image, target, names=("o",))
    block, T = blocks[-1], len(hand.seen)
    total = torch.zeros(T, dtype=torch.float64)
    for h in range(HEADS):
        for q in (q for q in range(T) if hand.read[q]):
            for i in range(T):
                total[i] += hand.read[q] * block.A[h, q, i] * (slopes[-1][h, q] @ block.v[h, i])
    return hand.cells(total)


# -- one patch alone ------------------------------------------------------------------------------


class Masked(Plain):
    """One attention is given its tokens times a mask."""

    def __init__(self, number, mask):
        self.number, self.mask = number, mask

    def given(self, number, normed):
        return normed * self.mask[:, None] if number == self.number else normed


def slow_reciprocam(net, image, target, number, kernel, subtracted=False):
    hand, (h, w) = Net(net), net.wall.seen.shape

    def probability(mask):
        blocks = hand.blocks(image, Masked(hand.depth + number, torch.cat([torch.ones(hand.prefix), mask.flatten()])))
        logits = hand.logits(blocks[-1].left)
        return logits[target].exp() / logits.exp().sum()

    found = torch.zeros(h, w, dtype=torch.float64)
    for i in range(h):
        for j in range(w):
            mask = torch.zeros(h, w, dtype=torch.float64)
            for (di, dj), weight in kernel.items():
                if 0 <= i + di < h and 0 <= j + dj < w:
                    mask[i + di, j + dj] = weight
            found[i, j] = probability(mask)
    return found - probability(torch.zeros(h, w)) if subtracted else found


GAUSSIAN = {(di, dj): 2.0 ** -(2 + abs(di) + abs(dj)) for di in (-1, 0, 1) for dj in (-1, 0, 1)}


@twin_of("vit_reciprocam")
def slow_vit_reciprocam(net, image, target, seed):
    return slow_reciprocam(net, image, target, -1, GAUSSIAN)


@twin_of("vit_reciprocam_authors")
def slow_vit_reciprocam_authors(net, image, target, seed):
    return slow_reciprocam(net, image, target, -2, GAUSSIAN)


@twin_of("vit_reciprocam_subtracted")
def slow_vit_reciprocam_subtracted(net, image, target, seed):
    return slow_reciprocam(net, image, target, -1, {(0, 0): 1.0}, subtracted=True)
