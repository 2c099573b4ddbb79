"""T9. Attention walls: maps times attention are 0 behind the wall; maps of its gradient alone do not notice it.

A block's values are v_t = W n_t, one W for each head; o_q = sum_k A[q, k] v_k; behind the wall A[q, u] = 0 for seen queries q and
unseen keys u. y is any function of o_q, q seen (whatever is added, normalised or computed above). G = d y / d A, g_q = d y / d o_q:

    G[q, u] = < g_q, v_u >,       d y / d v_u = sum_q A[q, u] g_q = 0.

(a) For all weights and tokens: A * G, and anything times d y / d v_u or d y / d n_u, is exactly 0 at unseen u. G is not.
(b) Values random, all else given. Let W have i.i.d. N(0, tau^2) entries, drawn independently of tokens n and attention A of its
    block; everything above (MLP, LayerNorm, blocks, head; trained or not) is fixed. Let M (n x C) hold the rows m_q = sum_k A[q, k] n_k
    of the queries that y reads, c = (M M')^-1 M n_u, and |r|^2 = |n_u|^2 - c' M n_u, what of n_u no read query has. Given o (all heads),

        G[q, u] is Gaussian with mean sum_j c_j < g_q, o_j > and variance tau^2 |g_q|^2 |r|^2,     so
        E[ G[q, u]^2 | o ] = ( sum_j c_j < g_q, o_j > )^2 + tau^2 |g_q|^2 |r|^2,

    independent from head to head. A class token in the last block reads one row: c = m.n_u / |m|^2. Where M has rank C, r = 0.
(c) All random, all moments. Let y read x_q + sum_h W_O o_q of a class token, or the mean over n seen tokens, by L fully connected
    layers without bias, ReLU between them; entries of W, W_O (C x d) and layer l i.i.d. Gaussian of variance tau_V^2, tau_O^2, tau_l^2.
    Given tokens, stream x and attention, for each head, each query q that is read (share 1 or 1/n) and EVERY token u, seen or not,

        E relu G[q, u] = share |n_u| / sqrt(2 pi) * tau_V E chi_d * tau_O E chi_C * prod_{l<L} ( tau_l kappa(d_l) ) * tau_L
        E G[q, u]^2    = share^2 |n_u|^2 * tau_V^2 d * tau_O^2 C * prod_{l<L} ( tau_l^2 d_l / 2 ) * tau_L^2.

    The wall is nowhere in it. LeGrad (relu G, mean over queries and heads) draws |n_u|; behind a fresh LayerNorm, sqrt(C) for all:
    a constant map, with the share of tokens that are unseen as its leakage.

Proof. (a) A[q, u] = 0. (b) o_j = W m_j and v_u = W n_u are jointly Gaussian, row by row of W, and g is a function of o. (c) is T3's
recursion with two linear layers before it: W and W_O multiply the norm of n_u by tau chi; the gates are those of another input
(x + W_O W m), which is all that T3 asks of them.
"""

import sympy as sp
import torch
from torch import Tensor

from theory.any_backbone import head_gain
from theory.arithmetic import NUMBERS, SYMBOLS, Arithmetic
from theory.attention import Block, Slopes, explain, gaussian_readout, random_block, usual_readout
from theory.attention_showcase import fresh_maps
from theory.networks import chunks
from theory.proofs import (
    Check,
    chi_mean_integrated,
    chi_square_integrated,
    half_gaussian_mean,
    half_gaussian_square,
    identity,
)
from theory.runs import Outcome, Run
from theory.statistics import ZScores, z_score

TITLE = "Attention walls: maps times attention are 0 behind the wall, maps of its gradient alone draw token lengths"


def parted(averages, token, inverse=torch.linalg.pinv):
    """(c, |r|^2) of a token n_u (C, 1) against the rows m_q (n, C) of what is read: c (n, 1) weighs the rows, r is what is left."""
    heard = averages @ token
    weights = inverse(averages @ averages.T) @ heard
    return weights, (token.T @ token - heard.T @ weights)[0, 0]


def conditional_mean(weights, carried):
    """sum_j c_j < g_q, o_j >. Two sequences over the read queries j."""
    return sum(c * along for c, along in zip(weights, carried, strict=True))


def conditional_variance(tau, squared_slope, squared_rest):
    """tau^2 |g_q|^2 |r|^2.

    >>> conditional_variance(2.0, 9.0, 0.25)
    9.0
    """
    return tau**2 * squared_slope * squared_rest


def expected_positive(
    norms, share, tau_value, tau_projection, width: int, channels: int, taus: tuple, widths: tuple[int, ...],
    maths: Arithmetic = NUMBERS,
):  # fmt: skip
    """E relu G[q, u]. norms |n_u|, any shape -> same shape; share 1 for a class token, 1/n for n pooled ones; width d, channels C.

    >>> round(float(expected_positive(1.0, 1, 1.0, 1.0, 1, 1, (1.0,), ())), 4)          # (2/pi) / sqrt(2 pi)
    0.254
    """
    linear = tau_value * maths.kappa(width, 1) * tau_projection * maths.kappa(channels, 1)
    return share * norms * linear * head_gain(taus, widths, maths) / maths.sqrt(2 * maths.pi)


def second_moment(
    norms, share, tau_value, tau_projection, width: int, channels: int, taus: tuple, widths: tuple[int, ...]
):
    """E G[q, u]^2. Arguments as in `expected_positive`.

    >>> second_moment(2.0, 0.5, 1.0, 1.0, 3, 4, (1.0, 1.0), (6,))
    36.0
    """
    moment = share**2 * norms**2 * tau_value**2 * width * tau_projection**2 * channels * taus[-1] ** 2
    for tau, hidden in zip(taus[:-1], widths, strict=True):
        moment = moment * tau**2 * hidden / 2
    return moment


def leak_share(norms, unseen) -> float:
    """sum_{unseen} |n_u| / sum |n_u|: the expected leakage of LeGrad in a block. norms, unseen (cells,) without prefix tokens."""
    return (norms * unseen).sum() / norms.sum()


def prove(
    split=parted, mean=conditional_mean, variance=conditional_variance, positive=expected_positive, square=second_moment
) -> list[Check]:
    """The zeros with symbolic weights; the conditional law from densities; both moments layer by layer."""
    return [
        identity("(a) A G and both token gradients are 0 at an unseen key, any readout", *_zeros()),
        identity("(a) G[q, u] = <g_q, v_u>", *_slope_at_attention()),
        identity("(b) mean and mean square of G given o, one query read, integrated", *_law(split, mean, variance)),
        identity("(b) two queries read: what is left is orthogonal to both and has length |r|", *_left_over(split)),
        identity("(c) E relu G, depth 1 to 3", *_recursion(positive, chi_mean_integrated, half_gaussian_mean, 1)),
        identity("(c) E G^2, depth 1 to 3", *_recursion(square, chi_square_integrated, _whole_square, 2)),
    ]


def _little_block() -> tuple[dict, sp.Expr, tuple]:
    """One head of one channel, a class token and another seen one, one unseen token; y an unknown function of o_0, o_1."""
    n = sp.symbols("n0:3", real=True)
    w, above = sp.symbols("w", real=True), sp.Function("y")
    weighed = {(q, k): sp.Symbol(f"A{q}{k}", real=True) for q in range(2) for k in range(3)}
    outputs = [sum(weighed[q, k] * w * n[k] for k in range(3)) for q in range(2)]
    return weighed, above(*outputs), (w, n)


def _zeros() -> tuple[list, list]:
    """A G at both queries and d y / d n_2, behind a softmax whose scores are minus infinity across the wall."""
    weighed, score, (_, n) = _little_block()
    logits = sp.symbols("s0:2", real=True)
    row = [sp.exp(s) for s in (*logits, -sp.oo)]
    across = row[2] / sum(row)
    wall = {weighed[q, 2]: across for q in range(2)}
    products = [across * sp.diff(score, weighed[q, 2]).subs(wall).doit() for q in range(2)]
    gradient = sp.diff(score, n[2]).subs(wall).doit()
    return [*products, gradient], [0, 0, 0]


def _slope_at_attention() -> tuple[list, list]:
    """For y = f_0 o_0 + f_1 o_1, which is any y to first order."""
    weighed, _, (w, n) = _little_block()
    slopes = sp.symbols("f0 f1", real=True)
    score = sum(slopes[q] * sum(weighed[q, k] * w * n[k] for k in range(3)) for q in range(2))
    return [sp.diff(score, weighed[q, 2]) for q in range(2)], [slopes[q] * w * n[2] for q in range(2)]


def _law(split, mean, variance) -> tuple[list, list]:
    """C = 2, d = 1: W = (o / |m|^2) m + t m_orthogonal / |m| with t ~ N(0, tau^2), the only freedom once o = W m is known."""
    m1, m2, n1, n2, g, o, tau = sp.symbols("m1 m2 n1 n2 g o tau", positive=True)
    t = sp.symbols("t", real=True)
    length = sp.sqrt(m1**2 + m2**2)
    slope = g * ((o * m1 / length**2 - t * m2 / length) * n1 + (o * m2 / length**2 + t * m1 / length) * n2)
    coefficients = sp.Poly(sp.expand(slope), t)
    constant, linear = coefficients.coeff_monomial(1), coefficients.coeff_monomial(t)
    density = sp.exp(-(t**2) / (2 * tau**2)) / (tau * sp.sqrt(2 * sp.pi))
    spread = sp.integrate(t**2 * density, (t, -sp.oo, sp.oo))
    weights, rest = split(sp.Matrix([[m1, m2]]), sp.Matrix([n1, n2]), sp.Matrix.inv)
    along = mean(list(weights), [g * o])
    return [along, along**2 + variance(tau, g**2, rest)], [constant, constant**2 + linear**2 * spread]


def _left_over(split) -> tuple[list, list]:
    """C = 3, two rows, a token with symbols in it."""
    a, b = sp.symbols("a b", real=True)
    rows, token = sp.Matrix([[1, 2, 0], [-1, 1, 3]]), sp.Matrix([a, b, 2])
    weights, rest = split(rows, token, sp.Matrix.inv)
    left = token - rows.T @ weights
    return [*(rows @ left), rest], [0, 0, (left.T @ left)[0, 0]]


def _whole_square(sigma: sp.Expr) -> sp.Expr:
    """E (sigma Z)^2: both halves of the line."""
    return 2 * half_gaussian_square(sigma)


def _recursion(claim, chi_moment, last_layer, power: int) -> tuple[list, list]:
    """(claimed, derived) moments for L = 1..3: two linear layers multiply the norm by chi, gated ones by chi of a coin's count."""
    share, norm, tau = sp.symbols("s a tau", positive=True)
    width, channels, widths = 2, 3, (2, 4)
    claimed, derived = [], []
    for depth in range(1, 4):
        carried = (share * norm) ** power
        for rows in (width, channels):
            carried *= tau**power * chi_moment(rows)
        for hidden in widths[: depth - 1]:
            coins = [sp.binomial(hidden, k) / sp.Integer(2) ** hidden for k in range(1, hidden + 1)]
            carried *= tau**power * sum(p * chi_moment(k) for k, p in enumerate(coins, start=1))
        derived.append(last_layer(tau) * carried)
        arguments = (norm, share, tau, tau, width, channels, (tau,) * depth, widths[: depth - 1])
        claimed.append(claim(*arguments, SYMBOLS) if power == 1 else claim(*arguments))
    return claimed, derived


def simulate(
    run: Run,
    split=parted,
    mean=conditional_mean,
    variance=conditional_variance,
    positive=expected_positive,
    square=second_moment,
    gated: tuple[str, ...] = ("A G", "d y / d v", "n d y / d n"),
) -> Outcome:
    """Random blocks, class token and pooled: exact zeros; the law given o; both moments. Each z from draws of its own."""
    scores, nonzero, silent, gap = [], 0, 0, 0.0
    for index in range(run.geometries):
        zeros, alive = _behind(run, index, gated)
        nonzero, silent = nonzero + zeros, silent + (not alive)
        scores += _law_scores(run, index, split, mean, variance)
        scores += _moment_scores(run, index, positive, square)
        gap = max(gap, _decided(run, index, split, mean))
        run.tick()
    checks = (
        Check("A G and token gradients: non-zero values at unseen tokens", nonzero == 0, f"{nonzero} of them"),
        Check("G at unseen tokens is not 0 in any geometry", silent == 0, f"{silent} geometries in which it is"),
        Check("C directions read: o decides G", gap < 1e-8, f"largest relative gap {gap:.0e}"),
    )
    return Outcome(ZScores.of(scores), checks, {"map": fresh_maps(run)})


def _made(run: Run, index: int, label: str, **how) -> tuple[Block, torch.Generator]:
    """The index-th block for one purpose, on the run's device, and a stream of chance of its own."""
    block = random_block(index, run.generator("T9", "block", label, index, device="cpu"), **how)
    here = (value.to(run.device) for value in (block.tokens, block.stream, block.probabilities, block.seen, block.read))
    return Block(*here, block.width), run.generator("T9", label, index)


def _usual(block: Block, draws: int, generator: torch.Generator) -> Slopes:
    """`draws` value weights of deviation 0.6 under one projection and one MLP, LayerNorm and class."""
    heads, channels = len(block.probabilities), block.tokens.shape[1]
    shape = 1, heads, channels, block.width
    projection = torch.randn(shape, generator=generator, dtype=block.tokens.dtype, device=generator.device)
    values = block.values(0.6, draws, generator)
    return explain(block, values, projection.expand(draws, -1, -1, -1), usual_readout(block, generator))


def _behind(run: Run, index: int, gated: tuple[str, ...]) -> tuple[int, bool]:
    """How many values that should be 0 are not, over 50 draws; and is G itself alive?"""
    block, generator = _made(run, index, "zeros")
    slopes, unseen = _usual(block, 50, generator), ~block.seen
    found = {
        "A G": (block.probabilities * slopes.at_probabilities)[:, :, block.seen][..., unseen],
        "d y / d v": slopes.at_values[:, :, unseen],
        "n d y / d n": (block.tokens * slopes.at_tokens)[:, unseen],
        "G": slopes.at_probabilities[:, :, block.seen][..., unseen],
    }
    return sum(int(torch.count_nonzero(found[name])) for name in gated), bool(found["G"].any())


def _picked(block: Block, index: int) -> tuple[int, int, int]:
    """A head, a query that is read, and a token: unseen ones and seen ones in turn, three to one."""
    side = block.seen if index % 4 == 3 else ~block.seen
    queries, tokens = block.read.nonzero()[:, 0], side.nonzero()[:, 0]
    return index % len(block.probabilities), int(queries[index % len(queries)]), int(tokens[index % len(tokens)])


def _placed(index: int, block: Block, slopes: Slopes, split, mean):
    """G at the picked place, its mean given o, |g|^2 (each (M,)) and |r|^2."""
    head, query, token = _picked(block, index)
    weights, rest = split(block.averages[head], block.tokens[token, :, None])
    slope, read = slopes.at_outputs[:, head, query], slopes.outputs[:, head][:, block.read > 0]
    carried = (read @ slope[:, :, None])[:, :, 0]  # (M, n): < g_q, o_j >
    return slopes.at_probabilities[:, head, query, token], mean(weights[:, 0], carried.T), (slope**2).sum(1), rest


def _law_scores(run: Run, index: int, split, mean, variance) -> list[float]:
    """Two z-scores: G, centred and scaled by the law, has mean 0 and mean square 1."""
    scores = []
    for label in ("centre", "spread"):
        block, generator = _made(run, index, label)
        found, centre, squared, rest = _placed(index, block, _usual(block, run.draws // 2, generator), split, mean)
        scaled = (found - centre) / torch.as_tensor(variance(0.6, squared, rest)).sqrt()
        scores.append(z_score(scaled if label == "centre" else scaled**2, float(label == "spread")))
    return scores


def _moment_scores(run: Run, index: int, positive, square) -> list[float]:
    """Two z-scores: E relu G at depth 1 to 3, E G^2 at depth 1 or 2, where its tails are light."""
    scores = []
    for label in ("positive", "square"):
        block, generator = _made(run, index, label)
        widths = tuple(2 + (index + layer) % 5 for layer in range(index % (3 if label == "positive" else 2)))
        taus = tuple(0.5 + 0.2 * ((index + layer) % 4) for layer in range(len(widths) + 1))
        head, query, token = _picked(block, index)
        found = _random_slopes(block, (head, query, token), taus, widths, run.draws, generator)
        norm, share = float(block.tokens[token].norm()), float(block.read[query])
        arguments = (norm, share, 0.6, 0.4, block.width, block.tokens.shape[1], taus, widths)
        values = found.relu() if label == "positive" else found**2
        scores.append(z_score(values, float((positive if label == "positive" else square)(*arguments))))
    return scores


def _random_slopes(block: Block, place: tuple, taus: tuple, widths: tuple, draws: int, generator) -> Tensor:
    """G at one place when all is random: (M,)."""
    head, query, token = place
    heads, count, channels = len(block.probabilities), *block.tokens.shape
    found = []
    for m in chunks(draws, heads * count * (count + 2 * channels + 3 * block.width), budget=8_000_000):
        shape = m, heads, channels, block.width
        projection = 0.4 * torch.randn(shape, generator=generator, dtype=block.tokens.dtype, device=generator.device)
        values = block.values(0.6, m, generator)
        slopes = explain(block, values, projection, gaussian_readout(block, taus, widths, m, generator))
        found.append(slopes.at_probabilities[:, head, query, token])
    return torch.cat(found)


def _decided(run: Run, index: int, split, mean) -> float:
    """With as many directions read as there are channels, the largest |G - mean| over the largest |G|: rounding alone."""
    block, generator = _made(run, index, "decided", pooled=True, room=0)
    found, centre, _, _ = _placed(index, block, _usual(block, 20, generator), split, mean)
    return float((found - centre).abs().max() / found.abs().max())
