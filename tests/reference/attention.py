"""Twins of the methods of attention: from the formulas, on a transformer by hand."""

import math

import torch

from tests.nets import HEADS
from tests.reference import twin_of
from tests.reference.vit import Net, Plain, told


def times(one, other):
    """The product of two square matrices, row by row."""
    return torch.stack([(row[:, None] * other).sum(0) for row in one])


def eye(T):
    return torch.tensor([[1.0 * (q == k) for k in range(T)] for q in range(T)], dtype=torch.float64)


def with_skip(M):
    added = M + eye(len(M))
    return torch.stack([row / row.sum() for row in added])


def mean(heads):
    return sum(heads) / len(heads)


def rolled(hand, matrices):
    R = eye(len(hand.seen))
    for M in matrices:
        R = times(M, R)
    return hand.cells(hand.row(R))


# -- rollout --------------------------------------------------------------------------------------


@twin_of("raw_attention")
def slow_raw(net, image, target, seed):
    hand, blocks, _ = told(net, image, target)
    return hand.cells(hand.row(mean(blocks[-1].A)))


@twin_of("rollout")
def slow_rollout(net, image, target, seed, fused=mean):
    hand, blocks, _ = told(net, image, target)
    return rolled(hand, [with_skip(fused(block.A)) for block in blocks])


@twin_of("rollout_max")
def slow_rollout_max(net, image, target, seed):
    return slow_rollout(net, image, target, seed, fused=lambda heads: torch.maximum(*heads))


@twin_of("rollout_min")
def slow_rollout_min(net, image, target, seed):
    return slow_rollout(net, image, target, seed, fused=lambda heads: torch.minimum(*heads))


def strongest(A, G):
    """relu(mean_h A G) without its lowest nine tenths."""
    M = mean([A[h] * G[h] for h in range(HEADS)]).clamp(min=0).tolist()
    places = sorted((M[q][k], q, k) for q in range(len(M)) for k in range(len(M)))
    for _, q, k in places[: int(0.9 * len(places))]:
        M[q][k] = 0.0
    return torch.tensor(M, dtype=torch.float64)


@twin_of("gradient_rollout")
def slow_gradient_rollout(net, image, target, seed):
    hand, blocks, slopes = told(net, image, target)
    return rolled(hand, [with_skip(strongest(b.A, G)) for b, G in zip(blocks, slopes, strict=True)])


@twin_of("gradient_rollout_authors")
def slow_gradient_rollout_authors(net, image, target, seed):
    """Gradients of scores, by a forward of its own."""
    hand = Net(net)
    blocks = hand.blocks(image.detach().requires_grad_())
    score = hand.logits(blocks[-1].left)[target]
    slopes = [torch.autograd.grad(score, block.scores, retain_graph=True)[0] for block in blocks]
    matrices = []
    for number, block in enumerate(blocks):
        M = (strongest(block.A.detach(), slopes[-1 - number]) + eye(len(hand.seen))) / 2
        sums = torch.stack([row.sum() for row in M])
        matrices.append(torch.stack([row / sums for row in M]))
    return rolled(hand, matrices)


def slow_gmar(net, image, target, norm):
    hand, blocks, slopes = told(net, image, target)
    matrices = []
    for block, G in zip(blocks, slopes, strict=True):
        norms = [norm(G[h].flatten().tolist()) for h in range(HEADS)]
        matrices.append(with_skip(sum(norms[h] / sum(norms) * block.A[h] for h in range(HEADS))))
    return rolled(hand, matrices)


@twin_of("gmar_l1")
def slow_gmar_l1(net, image, target, seed):
    return slow_gmar(net, image, target, lambda values: sum(map(abs, values)))


@twin_of("gmar_l2")
def slow_gmar_l2(net, image, target, seed):
    return slow_gmar(net, image, target, lambda values: math.sqrt(sum(v * v for v in values)))


# -- attention times gradient ---------------------------------------------------------------------


@twin_of("generic_attention")
def slow_generic(net, image, target, seed):
    hand, blocks, slopes = told(net, image, target)
    R = eye(len(hand.seen))
    for block, G in zip(blocks, slopes, strict=True):
        R = R + times(mean([(block.A[h] * G[h]).clamp(min=0) for h in range(HEADS)]), R)
    return hand.cells(hand.row(R))


@twin_of("attention_gradcam")
def slow_attention_gradcam(net, image, target, seed):
    hand, blocks, slopes = told(net, image, target)
    total = 0
    for h in range(HEADS):
        weight = hand.row(slopes[-1][h])[hand.prefix :]
        total = total + weight.sum() / len(weight) * hand.row(blocks[-1].A[h])
    return hand.cells(total / HEADS)


@twin_of("gradsam")
def slow_gradsam(net, image, target, seed):
    hand, blocks, slopes = told(net, image, target)
    T = len(hand.seen)
    total = torch.zeros(T, dtype=torch.float64)
    for block, G in zip(blocks, slopes, strict=True):
        for h in range(HEADS):
            for q in range(T):
                total += block.A[h, q] * G[h, q].clamp(min=0)
    return hand.cells(total / (len(blocks) * HEADS * T))


# -- Attention Guided CAM -------------------------------------------------------------------------


class HeldApart(Plain):
    """Attention's input is constant, and its probabilities are where gradients end."""

    def __init__(self):
        self.kept = []

    def given(self, number, normed):
        return normed.detach()

    def softmax(self, scores):
        self.kept.append(super().softmax(scores).detach().requires_grad_())
        return self.kept[-1]


def slow_agcam(net, image, target, feature):
    """feature(score, may attend, probability) of each query and key."""
    hand, ops = Net(net), HeldApart()
    blocks = hand.blocks(image, ops)
    slopes = torch.autograd.grad(hand.logits(blocks[-1].left)[target], ops.kept)
    T, total = len(hand.seen), torch.zeros(len(hand.seen), dtype=torch.float64)
    for number, block in enumerate(blocks):
        for h in range(HEADS):
            G = slopes[number * HEADS + h]
            for q in (q for q in range(T) if hand.read[q]):
                for k in range(T):
                    value = feature(block.scores[h, q, k].item(), hand.seen[q] == hand.seen[k], block.A[h, q, k].item())
                    total[k] += hand.read[q] * max(G[q, k].item(), 0.0) * value
    return hand.cells(total)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@twin_of("agcam")
def slow_agcam_raw(net, image, target, seed):
    return slow_agcam(net, image, target, lambda score, may, share: sigmoid(score))


@twin_of("agcam_masked")
def slow_agcam_masked(net, image, target, seed):
    return slow_agcam(net, image, target, lambda score, may, share: sigmoid(score) if may else 0.0)


@twin_of("agcam_probabilities")
def slow_agcam_probabilities(net, image, target, seed):
    return slow_agcam(net, image, target, lambda score, may, share: sigmoid(share))


# -- LeGrad ---------------------------------------------------------------------------------------


def slow_layerwise(net, image, target, score, product=lambda A, G: max(G, 0.0)):
    """Mean over blocks, heads and queries of product(A, d score / d A), a block's own score."""
    hand = Net(net)
    blocks = hand.blocks(image.detach().requires_grad_())
    T, total = len(hand.seen), torch.zeros(len(hand.seen), dtype=torch.float64)
    for block in blocks:
        (slope,) = torch.autograd.grad(score(hand, block.left)[target], block.A, retain_graph=True)
        for h in range(HEADS):
            for A, G in zip(block.A[h].tolist(), slope[h].tolist(), strict=True):
                total += torch.tensor([product(a, g) for a, g in zip(A, G, strict=True)], dtype=torch.float64)
    return hand.cells(total / (len(blocks) * HEADS * T))


def of_the_mean(hand, tokens):
    middle = sum(tokens) / len(tokens)
    return hand.linear(hand.normed(middle[None], "norm", Plain())[0], "head")


def as_the_net(hand, tokens):
    return hand.logits(tokens)


@twin_of("legrad")
def slow_legrad(net, image, target, seed):
    return slow_layerwise(net, image, target, of_the_mean)


@twin_of("legrad_class")
def slow_legrad_class(net, image, target, seed):
    return slow_layerwise(net, image, target, as_the_net)


@twin_of("legrad_times_attention")
def slow_legrad_times_attention(net, image, target, seed):
    return slow_layerwise(net, image, target, as_the_net, lambda A, G: A * max(G, 0.0))
