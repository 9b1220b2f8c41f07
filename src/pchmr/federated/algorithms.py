"""Federated algorithms on flat vectors: `init` and `apply`, and nothing of any framework.

The server folds `weight(n, k) * delta` over the replies of a round (n samples, k steps), divides
by `divisor`, and hands the result to `apply`, which changes the global parameters in place.
Every rule works entry by entry, so vectors arrive in chunks that fit a cache, all of them float32.
What a client adds to its gradients (FedProx, SCAFFOLD) is in `corrections.py`; a record names it.
Departures from the papers are Flower's, so that both agree: the second moment starts at zero, and
FedAdam corrects its bias with the exponent round + 1.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import nn

from pchmr import choices
from pchmr.config import ServerOptions
from pchmr.federated.corrections import proximal
from pchmr.federated.personal import APFL_RULE, DITTO_RULE, Beside, head, nothing, scales

Chunk = Float[np.ndarray, " chunk"]
State = dict[str, Float[np.ndarray, " chunk"]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a rule knows besides vectors: the round (from 1), its rate and the options."""

    round: int
    rate: float
    options: ServerOptions


@dataclass
class Totals:
    """Sums over the good replies of a round."""

    replies: int = 0
    samples: float = 0.0
    sample_steps: float = 0.0
    weight: float = 0.0

    def add(self, num_samples: int, num_steps: int, weight: float) -> None:
        """Counts one reply."""
        self.replies += 1
        self.samples += num_samples
        self.sample_steps += num_samples * num_steps
        self.weight += weight


def _no_state(size: int) -> State:
    return {}


def _momentum_state(size: int) -> State:
    return {"momentum": np.zeros(size, dtype=np.float32)}


def _second_moment_state(size: int) -> State:
    return {"moment_2": np.zeros(size, dtype=np.float32)}


def _moments_state(size: int) -> State:
    return {"moment_1": np.zeros(size, dtype=np.float32)} | _second_moment_state(size)


def _control_state(size: int) -> State:
    return {"control": np.zeros(size, dtype=np.float32)}


def _by_samples(num_samples: int, num_steps: int) -> float:
    return float(num_samples)


def _by_samples_per_step(num_samples: int, num_steps: int) -> float:
    return num_samples / num_steps


def _equal(num_samples: int, num_steps: int) -> float:
    return 1.0


def _sum_of_weights(totals: Totals) -> float:
    return totals.weight


def _effective_steps(totals: Totals) -> float:
    return totals.samples**2 / totals.sample_steps


def _average(parameters: Chunk, update: Chunk, state: State, step: Step) -> None:
    """x <- x + rate * update."""
    parameters += update if step.rate == 1.0 else step.rate * update


def _momentum(parameters: Chunk, update: Chunk, state: State, step: Step) -> None:
    """v <- momentum * v + update; x <- x + rate * v (Hsu et al. 2019, arXiv 1909.06335)."""
    state["momentum"] *= step.options.server_momentum
    state["momentum"] += update
    _average(parameters, state["momentum"], state, step)


def _nesterov(parameters: Chunk, update: Chunk, state: State, step: Step) -> None:
    """v <- momentum * v + update; x <- x + rate * (update + momentum * v)."""
    state["momentum"] *= step.options.server_momentum
    state["momentum"] += update
    ahead = update + np.float32(step.options.server_momentum) * state["momentum"]
    _average(parameters, ahead, state, step)


def _adaptive(parameters: Chunk, moment: Chunk, second: Chunk, rate: float, tau: float) -> None:
    """x <- x + rate * m / (sqrt(v) + tau)."""
    parameters += rate * moment / (np.sqrt(second) + tau)


def _decay(vector: Chunk, decay: float, new: Chunk) -> None:
    """v <- decay * v + (1 - decay) * new."""
    vector *= decay
    vector += (1 - decay) * new


def _adam(parameters: Chunk, update: Chunk, state: State, step: Step) -> None:
    """Reddi et al. 2021, arXiv 2003.00295, algorithm 2 (FedAdam)."""
    beta_1, beta_2, tau = step.options.beta_1, step.options.beta_2, step.options.tau
    _decay(state["moment_1"], beta_1, update)
    _decay(state["moment_2"], beta_2, np.square(update))
    power = step.round + 1
    rate = step.rate * math.sqrt(1 - beta_2**power) / (1 - beta_1**power)
    _adaptive(parameters, state["moment_1"], state["moment_2"], rate, tau)


def _yogi(parameters: Chunk, update: Chunk, state: State, step: Step) -> None:
    """Reddi et al. 2021, arXiv 2003.00295, algorithm 2 (FedYogi)."""
    _decay(state["moment_1"], step.options.beta_1, update)
    squared, second = np.square(update), state["moment_2"]
    second -= (1 - step.options.beta_2) * squared * np.sign(second - squared)
    _adaptive(parameters, state["moment_1"], second, step.rate, step.options.tau)


def _adagrad(parameters: Chunk, update: Chunk, state: State, step: Step) -> None:
    """Reddi et al. 2021, arXiv 2003.00295, algorithm 2 (FedAdagrad, no first moment)."""
    state["moment_2"] += np.square(update)
    _adaptive(parameters, update, state["moment_2"], step.rate, step.options.tau)


def _no_term(model: nn.Module, options: ServerOptions) -> None:
    """A client's gradients are its own."""


def _proximal(model: nn.Module, options: ServerOptions) -> Callable[[], None] | None:
    return proximal(model, options.mu)


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A federated algorithm.

    Attributes:
        init: State vectors for that many parameters.
        apply: Changes a chunk of parameters and state, given the averaged update.
        weight: Of a reply with so many samples and local steps.
        divisor: What the weighted sum is divided by.
        rate: Server learning rate unless the options name one.
        client_term: From a client's model at the global weights to what changes its gradients
            before every step; None leaves them alone.
        has_control: Whether clients and server exchange control variates (SCAFFOLD).
        stays: Names of a model's weights that every client keeps.
        is_in_turn: Whether these train first, and the rest in the last local epoch alone (FedRep).
        beside: How a client trains a network of its own beside the common one, if it does.
    """

    init: Callable[[int], State] = _no_state
    apply: Callable[[Chunk, Chunk, State, Step], None] = _average
    weight: Callable[[int, int], float] = _by_samples
    divisor: Callable[[Totals], float] = _sum_of_weights
    rate: float = 1.0
    client_term: Callable[[nn.Module, ServerOptions], Callable[[], None] | None] = _no_term
    has_control: bool = False
    stays: Callable[[nn.Module], set[str]] = nothing
    is_in_turn: bool = False
    beside: Beside | None = None

    @property
    def is_personal(self) -> bool:
        """Whether clients end with networks of their own."""
        return self.stays is not nothing or self.beside is not None

    def step(self, round_number: int, options: ServerOptions) -> Step:
        """The scalars of a round."""
        rate = options.server_learning_rate
        return Step(round=round_number, rate=self.rate if rate is None else rate, options=options)


# McMahan et al. 2017, arXiv 1602.05629.
FEDAVG = Algorithm()
FEDAVGM = Algorithm(init=_momentum_state, apply=_momentum)
# Douillard et al. 2023 (DiLoCo), arXiv 2311.08105, algorithm 1 with its outer rate; the momentum of
# Sutskever et al. 2013 as torch.optim.SGD has it.
NESTEROV = Algorithm(init=_momentum_state, apply=_nesterov, rate=0.7)
# Li et al. 2020, arXiv 1812.06127: the server averages; the term is the client's.
FEDPROX = Algorithm(client_term=_proximal)
FEDADAM = Algorithm(init=_moments_state, apply=_adam, rate=0.01)
FEDYOGI = Algorithm(init=_moments_state, apply=_yogi, rate=0.01)
FEDADAGRAD = Algorithm(init=_second_moment_state, apply=_adagrad, rate=0.01)
# Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1: clients count alike.
SCAFFOLD = Algorithm(init=_control_state, weight=_equal, has_control=True)
# Wang et al. 2020, arXiv 2007.07481, equation 11: updates per local step, put back to scale.
FEDNOVA = Algorithm(weight=_by_samples_per_step, divisor=_effective_steps)
# Clients' own networks, see `personal`; the server averages what travels.
FEDPER = Algorithm(stays=head)
FEDREP = Algorithm(stays=head, is_in_turn=True)
LOCAL_NORM = Algorithm(stays=scales)
DITTO = Algorithm(beside=DITTO_RULE)
APFL = Algorithm(beside=APFL_RULE)

ALGORITHMS: Mapping[str, Algorithm] = choices.Loaded(choices.ALGORITHMS)


def advance_control(control: Chunk, total: Chunk, num_clients: int) -> None:
    """c <- c + (sum of the clients' changes) / N (SCAFFOLD, algorithm 1, line 17)."""
    control += total / num_clients
