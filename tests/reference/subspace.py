"""Twins of the subspace methods: singular vectors by numpy's SVD, factorisations by plain loops."""

import math

import numpy as np
import torch

from tests.reference import twin_of
from tests.reference.basic import parts


def larger_extreme_positive(values):
    return -values if -values.min() > values.max() else values


def projected(X, shape, centred):
    X = X.flatten(1).T.numpy()
    if centred:
        X = X - X.mean(0)
    if not X.any():
        return torch.zeros(shape, dtype=torch.float64)
    _, _, Vt = np.linalg.svd(X, full_matrices=False)
    return torch.from_numpy(larger_extreme_positive(X @ Vt[0])).view(shape)


@twin_of("eigencam_uncentred")
def slow_eigencam_uncentred(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    return projected(A, A.shape[1:], centred=False)


@twin_of("eigengradcam")
def slow_eigengradcam(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return projected(G * A, A.shape[1:], centred=True)


@twin_of("eigengradcam_uncentred")
def slow_eigengradcam_uncentred(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return projected(G * A, A.shape[1:], centred=False)


@twin_of("segeigencam")
def slow_segeigencam(net, image, target, seed):
    A, G, _ = parts(net, image, target)
    return projected(G.abs() * A, A.shape[1:], centred=True)


@twin_of("kpcacam")
def slow_kpcacam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    K, h, w = A.shape
    X = [[float(A[k, i, j] - A[k].mean()) for k in range(K)] for i in range(h) for j in range(w)]
    kernel = np.array([[math.tanh(sum(a * b for a, b in zip(x, y, strict=True)) / K + 1) for y in X] for x in X])
    centring = np.eye(h * w) - np.full((h * w, h * w), 1 / (h * w))
    values, vectors = np.linalg.eigh(centring @ kernel @ centring)
    return torch.from_numpy(larger_extreme_positive(vectors[:, -1] * math.sqrt(max(values[-1], 0)))).view(h, w)


def above_two_sigma(channel):
    values = channel.flatten().tolist()
    mean = sum(values) / len(values)
    std = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    return mean, [1.0 if v > mean + 2 * std else 0.0 for v in values]


@twin_of("fem")
def slow_fem(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    total = torch.zeros_like(A[0])
    for channel in A:
        _, binary = above_two_sigma(channel)
        total += sum(binary) / len(binary) * channel
    return total


@twin_of("fem_binary")
def slow_fem_binary(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    total = torch.zeros_like(A[0])
    for channel in A:
        mean, binary = above_two_sigma(channel)
        total += mean * torch.tensor(binary).double().view(channel.shape)
    return total


@twin_of("lafam")
def slow_lafam(net, image, target, seed):
    A, _, _ = parts(net, image, target)
    return sum(A[k] for k in range(len(A))) / len(A)
