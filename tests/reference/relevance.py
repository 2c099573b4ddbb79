"""Twins of relevance handed back through a transformer, on a transformer by hand."""

import torch

from tests.nets import HEADS
from tests.reference import twin_of
from tests.reference.attention import eye, times
from tests.reference.vit import Net, Plain, told


def through_linear(x, weight, R):
    """Relevance of x (T, n) of R (T, m), unit by unit: shares among x_i w_ij > 0."""
    out = torch.zeros_like(x)
    for j in range(len(weight)):
        parts = (x * weight[j]).clamp(min=0)
        total = parts.sum(1)
        out += torch.where(total > 0, R[:, j] / torch.where(total > 0, total, 1), 0)[:, None] * parts
    return out


def through_sum(one, other, R):
    whole = one + other
    a, b = one * R / whole, other * R / whole
    mass = a.sum().abs() + b.sum().abs()
    return a * (a.sum().abs() / mass * R.sum() / a.sum()), b * (b.sum().abs() / mass * R.sum() / b.sum())


def through_product(one, other, R):
    """Half of R to either factor: R_ij is shared among one_ik other_kj."""
    left, right = torch.zeros_like(one), torch.zeros_like(other)
    whole = one @ other
    each = torch.where(whole != 0, R / torch.where(whole != 0, whole, 1) / 2, 0)
    for i in range(len(one)):
        shares = one[i][:, None] * other * each[i]  # (k, j)
        left[i] = shares.sum(1)
        right += shares
    return left, right


def head_relevance(hand, block, target):
    """R of the last block's tokens: 1 at the class, through the head, pool and LayerNorm."""
    normed = hand.normed(block.left, "norm", Plain())
    read = sum(share * token for share, token in zip(hand.read, normed, strict=True))
    start = torch.tensor([[1.0 * (c == target) for c in range(len(hand.w["head.weight"]))]], dtype=torch.float64)
    R = through_linear(read[None], hand.w["head.weight"], start)[0]
    return torch.stack([share * token / read * R for share, token in zip(hand.read, normed, strict=True)])


def attention_relevance(hand, block, number, R):
    """R of the attention's input and of A, of R of its projected output."""
    at = f"blocks.{number}"
    d = block.q.shape[2]
    R = through_linear(torch.cat(list(block.o), 1), hand.w[f"{at}.projection.weight"], R)
    parts, kept = [], []
    for h in range(HEADS):
        R_A, R_v = through_product(block.A[h], block.v[h], R[:, h * d : (h + 1) * d])
        R_q, R_k = through_product(block.q[h], block.k[h].T, R_A)
        parts.append((R_q, R_k.T, R_v))
        kept.append(R_A)
    made = torch.cat([torch.cat([part[i] for part in parts], 1) for i in range(3)], 1)
    return through_linear(block.normed, hand.w[f"{at}.qkv.weight"], made), torch.stack(kept)


@twin_of("transformer_attribution")
def slow_transformer_attribution(net, image, target, seed):
    hand, blocks, slopes = told(net, image, target)
    R, handed = head_relevance(hand, blocks[-1], target), []
    for number in reversed(range(hand.depth)):
        block, at, ops = blocks[number], f"blocks.{number}", Plain()
        R, R_mlp = through_sum(block.between, block.left - block.between, R)
        normed = hand.normed(block.between, f"{at}.norm_mlp", ops)
        wide = ops.gelu(hand.linear(normed, f"{at}.wider"))
        R_mlp = through_linear(wide, hand.w[f"{at}.narrower.weight"], R_mlp)
        R = R + through_linear(normed, hand.w[f"{at}.wider.weight"], R_mlp)
        R, R_attention = through_sum(block.entered, block.between - block.entered, R)
        R_in, R_A = attention_relevance(hand, block, number, R_attention)
        R = R + R_in
        handed.insert(0, R_A)
    rolled = eye(len(hand.seen))
    for G, R_A in zip(slopes, handed, strict=True):
        rolled = rolled + times(sum((G[h] * R_A[h]).clamp(min=0) for h in range(HEADS)) / HEADS, rolled)
    return hand.cells(hand.row(rolled))


# -- input x gradient -----------------------------------------------------------------------------


class Straight(Plain):
    """LayerNorm's deviation is constant, GELU's slope is f(x) / x."""

    def norm(self, x, weight, bias):
        away = x - x.mean(1, keepdim=True)
        return away / ((away**2).mean(1, keepdim=True) + 1e-5).sqrt().detach() * weight + bias

    def gelu(self, x):
        return super().gelu(x).detach() / x.detach() * x


class Halved(Straight):
    def product(self, one, other):
        made = one @ other
        return made / 2 + made.detach() / 2


class Constant(Straight):
    def softmax(self, scores):
        return super().softmax(scores).detach()


def by_input(net, image, target, ops):
    hand, leaf = Net(net), image.detach().requires_grad_()
    (slope,) = torch.autograd.grad(hand.logits(hand.blocks(leaf, ops)[-1].left, ops)[target], leaf)
    return sum(image[colour] * slope[colour] for colour in range(len(image)))


@twin_of("attnlrp")
def slow_attnlrp(net, image, target, seed):
    return by_input(net, image, target, Halved())


@twin_of("cplrp")
def slow_cplrp(net, image, target, seed):
    return by_input(net, image, target, Constant())
