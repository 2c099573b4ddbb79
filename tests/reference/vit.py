"""A vision transformer by hand, from the weights of a walled net: what the twins of attention read.

One image, float64 as the weights are. `Plain` is the network; its methods are what some twins do otherwise.
"""

import math
from dataclasses import dataclass

import torch

from tests.nets import HEADS


@dataclass
class Block:
    """entered, normed, between, left (T, C); q, k, v, o (heads, T, d); scores before the wall's mask, A (heads, T, T)."""

    entered: torch.Tensor
    normed: torch.Tensor = None
    q: torch.Tensor = None
    k: torch.Tensor = None
    v: torch.Tensor = None
    scores: torch.Tensor = None
    A: torch.Tensor = None
    o: torch.Tensor = None
    between: torch.Tensor = None
    left: torch.Tensor = None


class Plain:
    """The operations as they are."""

    def norm(self, x, weight, bias):
        """(x - mean) / sqrt(var + 1e-5) * weight + bias of each token."""
        away = x - x.mean(1, keepdim=True)
        return away / ((away**2).mean(1, keepdim=True) + 1e-5).sqrt() * weight + bias

    def gelu(self, x):
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))

    def product(self, one, other):
        return one @ other

    def softmax(self, scores):
        return scores.exp() / scores.exp().sum(1, keepdim=True)

    def given(self, number, normed):
        """What block `number`'s attention is given in place of its LayerNorm's output."""
        return normed


class Net:
    """The weights of a walled ViT and the sides of its tokens."""

    def __init__(self, net):
        self.net = net
        named = (*net.run.named_parameters(), *net.run.named_buffers())
        self.w = {
            name.removeprefix("t_").replace("/", "."): value.detach() for name, value in named if name[:2] == "t_"
        }
        self.prefix = int("class_token" in self.w)
        self.seen = [True] * self.prefix + net.wall.seen.flatten().tolist()
        self.depth = len({name.split(".")[1] for name in self.w if name.startswith("blocks.")})
        tokens = range(len(self.seen))
        self.read = [1.0 * (t == 0) if self.prefix else self.seen[t] / sum(self.seen) for t in tokens]

    def tokens(self, image):
        """(T, C): patches in rows from the top left, the class token before them, plus positions."""
        weight, bias = self.w["patches.weight"], self.w["patches.bias"]
        size = weight.shape[-1]
        rows = [self.w["class_token"][0, 0]] if self.prefix else []
        for i in range(0, image.shape[1], size):
            for j in range(0, image.shape[2], size):
                rows.append((weight * image[:, i : i + size, j : j + size]).sum((1, 2, 3)) + bias)
        return torch.stack(rows) + self.w["positions"][0]

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def normed(self, x, name, ops):
        return ops.norm(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def attention(self, block, number, ops):
        C = block.entered.shape[1]
        d = C // HEADS
        block.normed = self.normed(block.entered, f"blocks.{number}.norm", ops)
        made = self.linear(ops.given(number, block.normed), f"blocks.{number}.qkv")
        q, k, v = (
            torch.stack([made[:, part * C + h * d : part * C + (h + 1) * d] for h in range(HEADS)]) for part in range(3)
        )
        wall = torch.tensor([[one == other for other in self.seen] for one in self.seen])
        scores = torch.stack([ops.product(q[h], k[h].T) / math.sqrt(d) for h in range(HEADS)])
        A = torch.stack([ops.softmax(scores[h].masked_fill(~wall, -math.inf)) for h in range(HEADS)])
        o = torch.stack([ops.product(A[h], v[h]) for h in range(HEADS)])
        block.q, block.k, block.v, block.scores, block.A, block.o = q, k, v, scores, A, o
        return self.linear(torch.cat(list(o), 1), f"blocks.{number}.projection")

    def mlp(self, x, number, ops):
        wide = ops.gelu(self.linear(self.normed(x, f"blocks.{number}.norm_mlp", ops), f"blocks.{number}.wider"))
        return self.linear(wide, f"blocks.{number}.narrower")

    def blocks(self, image, ops=None):
        ops, x, found = ops or Plain(), self.tokens(image), []
        for number in range(self.depth):
            block = Block(x)
            block.between = x + self.attention(block, number, ops)
            block.left = x = block.between + self.mlp(block.between, number, ops)
            found.append(block)
        return found

    def logits(self, tokens, ops=None):
        """The head on a last block's tokens: LayerNorm, then the class token or the mean of the seen tokens."""
        normed = self.normed(tokens, "norm", ops or Plain())
        return self.linear(sum(share * token for share, token in zip(self.read, normed, strict=True)), "head")

    def row(self, matrix):
        """Of a matrix over tokens the class token's row; the mean of the pooled tokens' rows."""
        return sum(share * row for share, row in zip(self.read, matrix, strict=True) if share)

    def cells(self, of_tokens):
        return of_tokens[self.prefix :].view(self.net.wall.seen.shape)


def told(net, image, target, names=("A",)):
    """The net by hand, its blocks, and d y_target / d each named value of each block."""
    hand = Net(net)
    blocks = hand.blocks(image.detach().requires_grad_())
    score = hand.logits(blocks[-1].left)[target]
    slopes = [torch.autograd.grad(score, [getattr(b, n) for n in names], retain_graph=True) for b in blocks]
    for block in blocks:
        for name, value in vars(block).items():
            setattr(block, name, value.detach())
    return hand, blocks, [grads[0] if len(names) == 1 else grads for grads in slopes]
