"""Every algorithm once more, slowly, line by line like its paper's pseudocode.

Plain SGD on the toy net, vectors in float64, one function per algorithm. Two lines depart from the
papers as Flower does: the second moment starts at zero, and FedAdam corrects its bias with the
exponent round + 1.
"""

from collections.abc import Callable
from math import ceil

import numpy as np
import torch
from torch.func import functional_call
from toy import ToyNet, subset

from pchmr.config import FederateConfig
from pchmr.data.sample import Sample
from pchmr.federated import World
from pchmr.federated.rounds import client_seed, cohort

Vector = np.ndarray


class Problem:
    """The toy net as a function of one float64 vector."""

    def __init__(self, config: FederateConfig, world: World) -> None:
        self.config, self.world = config, world
        self.net = ToyNet(norm=False).double()
        self.start = np.concatenate(
            [p.detach().double().numpy().reshape(-1) for p in world.model.parameters()]
        )

    def gradient(self, x: Vector, batch: Sample) -> Vector:
        leaf = torch.from_numpy(x.copy()).requires_grad_()
        named, start = {}, 0
        for name, p in self.net.named_parameters():
            named[name] = leaf[start : start + p.numel()].view(p.shape)
            start += p.numel()
        prediction = functional_call(self.net, named, batch.betas.double())
        loss = (prediction - batch.transl.double()).square().mean()
        return torch.autograd.grad(loss, leaf)[0].numpy()

    def batches(self, client: int, round_number: int):
        data = subset(self.world, client)
        seed = client_seed(self.config.seed, round_number - 1, client)
        order = np.random.default_rng(seed).permutation(len(data))
        size = self.config.optim_options.batch_size
        for start in range(0, len(order), size):
            yield data.batch(order[start : start + size])

    def num_samples(self, client: int) -> int:
        return len(self.world.partitions[client])

    def num_steps(self, client: int) -> int:
        return ceil(self.num_samples(client) / self.config.optim_options.batch_size)

    def cohort(self, round_number: int) -> list[int]:
        c = self.config
        return cohort(c.seed, round_number, c.num_clients, c.clients_per_round)

    @property
    def rounds(self) -> range:
        return range(1, self.config.num_rounds + 1)

    def local(self, x: Vector, client: int, r: int, extra: Callable[[Vector], Vector]) -> Vector:
        y = x.copy()
        for batch in self.batches(client, r):
            y = y - self.config.optim_options.learning_rate * (self.gradient(y, batch) + extra(y))
        return y


def nothing(y: Vector) -> Vector:
    return np.zeros_like(y)


def average(p: Problem, x: Vector, r: int, extra: Callable[[Vector], Vector]) -> Vector:
    """The weighted mean of the clients' deltas."""
    clients = p.cohort(r)
    n = sum(p.num_samples(i) for i in clients)
    return sum(p.num_samples(i) / n * (p.local(x, i, r, extra) - x) for i in clients)


def fedavg(p: Problem) -> Vector:
    x = p.start
    for r in p.rounds:
        x = x + average(p, x, r, nothing)
    return x


def fedavgm(p: Problem) -> Vector:
    x, v, beta = p.start, 0.0, p.config.server_options.server_momentum
    for r in p.rounds:
        v = beta * v + average(p, x, r, nothing)
        x = x + v
    return x


def nesterov(p: Problem) -> Vector:
    """torch.optim.SGD(lr=0.7, momentum, nesterov=True) on the negative mean update."""
    x, v, beta = p.start, 0.0, p.config.server_options.server_momentum
    for r in p.rounds:
        g = average(p, x, r, nothing)
        v = beta * v + g
        x = x + 0.7 * (g + beta * v)
    return x


def fedprox(p: Problem) -> Vector:
    x, mu = p.start, p.config.server_options.mu
    for r in p.rounds:
        anchor = x
        x = x + average(p, x, r, lambda y, anchor=anchor: mu * (y - anchor))
    return x


def adaptive(p: Problem, second: Callable[[Vector, Vector, float], Vector], adam: bool) -> Vector:
    o = p.config.server_options
    b1, b2 = o.beta_1, o.beta_2
    x, m, v, eta = p.start, 0.0, np.zeros_like(p.start), 0.01
    for r in p.rounds:
        delta = average(p, x, r, nothing)
        m = b1 * m + (1 - b1) * delta
        v = second(v, delta**2, b2)
        rate = eta * np.sqrt(1 - b2 ** (r + 1)) / (1 - b1 ** (r + 1)) if adam else eta
        x = x + rate * m / (np.sqrt(v) + o.tau)
    return x


def fedadam(p: Problem) -> Vector:
    return adaptive(p, lambda v, d2, b2: b2 * v + (1 - b2) * d2, adam=True)


def fedyogi(p: Problem) -> Vector:
    return adaptive(p, lambda v, d2, b2: v - (1 - b2) * d2 * np.sign(v - d2), adam=False)


def fedadagrad(p: Problem) -> Vector:
    x, v = p.start, np.zeros_like(p.start)
    for r in p.rounds:
        delta = average(p, x, r, nothing)
        v = v + delta**2
        x = x + 0.01 * delta / (np.sqrt(v) + p.config.server_options.tau)
    return x


def scaffold(p: Problem) -> Vector:
    """Algorithm 1 with option II: c_i+ = c_i - c + (x - y_i) / (K * rate)."""
    x, rate = p.start, p.config.optim_options.learning_rate
    c, own = np.zeros_like(x), [np.zeros_like(x) for _ in range(p.config.num_clients)]
    for r in p.rounds:
        dy, dc = [], []
        for i in p.cohort(r):
            y = p.local(x, i, r, lambda y, i=i, c=c: c - own[i])
            new = own[i] - c + (x - y) / (p.num_steps(i) * rate)
            dy.append(y - x)
            dc.append(new - own[i])
            own[i] = new
        x = x + np.mean(dy, axis=0)
        c = c + len(dc) / p.config.num_clients * np.mean(dc, axis=0)
    return x


def fednova(p: Problem) -> Vector:
    x = p.start
    for r in p.rounds:
        clients = p.cohort(r)
        n = sum(p.num_samples(i) for i in clients)
        share = {i: p.num_samples(i) / n for i in clients}
        tau = sum(share[i] * p.num_steps(i) for i in clients)
        normalized = sum(
            share[i] * (p.local(x, i, r, nothing) - x) / p.num_steps(i) for i in clients
        )
        x = x + tau * normalized
    return x


TWINS: dict[str, Callable[[Problem], Vector]] = {
    f.__name__: f
    for f in (fedavg, fedavgm, nesterov, fedprox, fedadam, fedyogi, fedadagrad, scaffold, fednova)
}
