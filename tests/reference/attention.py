"""Twins of the methods of attention: from the formulas, on a transformer by hand."""

import math

import torch

from tests.nets import HEADS
from tests.reference import twin_of
from tests.reference.vit import Net, Plain, told


def times(one, other):
    """The product of two square matrices, row by row."""
    out = torch.zeros_like(one)
    for q in range(len(one)):
        for k in range(len(one)):
            out[q] += one[q, k] * other[k]
    return out


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
    M = mean([A[h] * G[h] for h in range(HEADS)]).clamp(min=0)
    places = sorted((M[q, k].item(), q, k) for q in range(len(M)) for k in range(len(M)))
    for _, q, k in places[: int(0.9 * len(places))]:
        M[q, k] = 0
    return M


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
        sums = [row.sum() for row in M]
        matrices.append(torch.stack([torch.stack([row[j] / sums[j] for j in range(len(M))]) for row in M]))
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


# -- a factor of the class ------------------------------------------------------------------------


def class_factor(net, image, target, steps=20):
    total = sum(told(net, step / (steps - 1) * image, target)[2][-1] for step in range(steps))
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
            share = sum(block.A[h, q, i] for h in range(HEADS) for q in range(T)) / (HEADS * T)
            total[i] += share * sum(block.entered[i] * G[i])
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
