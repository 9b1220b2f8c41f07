"""Fine-tuning of a shared model on one person's labels, ended by labels that were held out.

The epoch is that of every paradigm (`pchmr.training`); what is added is what moves, a pull to the
shared weights (L2-SP, Li et al. 2018, arXiv 1802.01483) and the choice of the best epoch.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor, nn

from pchmr.body import BodyModel
from pchmr.config import FittingOptions, OptimOptions
from pchmr.data.sample import PeopleDataset
from pchmr.evaluation import evaluate
from pchmr.models.low_rank import only_low_rank_trains
from pchmr.models.trainable import frozen_norms, only_head_trains, only_norms_train
from pchmr.personalize.lessons import Lessons
from pchmr.seeds import derive_seed
from pchmr.training import new_optimizer, schedule, train_epoch

LORA_RANK = 8
SHARES = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1)
"""Of the way from the first weights to those learned."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What fine-tuning did.

    Attributes:
        validation_mm: MPJPE on held-out pictures: of the first weights, then after each epoch.
        best_epoch: The one that was kept; 0 is where it began.
        share: Of the way to that epoch's weights, see `held_back`.
    """

    validation_mm: tuple[float, ...]
    best_epoch: int
    share: float = 1.0


def personalize(
    model: nn.Module,
    body: BodyModel,
    lessons: Lessons,
    validation: Sequence[PeopleDataset],
    options: FittingOptions,
    *,
    seed: int,
) -> Fitted:
    """Changes `model` to the weights that fit the held-out labels best.

    Args:
        model: Where learning begins.
        body: Body of the labels.
        lessons: What to learn from.
        validation: Sets of held-out pictures whose mean errors are averaged; without any the last
            epoch is kept.
        options: What moves, how fast, how long.
        seed: Order, augmentation, dropout.

    Raises:
        DivergedError: A loss turned NaN or infinite.
    """
    errors = [_mpjpe(model, body, validation)] if validation else []
    best, best_state = 0, copy.deepcopy(model.state_dict())
    optim = OptimOptions(
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
    )
    with moving(model, options.trainable, seed) as merged:
        optimizer = new_optimizer(model, optim)
        pull_back(model, optimizer, options.pull)
        factor = schedule("cosine", options.num_epochs)
        for epoch in range(options.num_epochs):
            people, own = lessons.of_epoch(epoch), derive_seed(seed, "personal", epoch)
            now = float(epoch)
            train_epoch(model, body, people, optimizer, optim, seed=own, epoch=now, factor=factor)
            if validation:
                errors.append(_mpjpe(model, body, validation))
            if not validation or errors[-1] < errors[best]:
                best, best_state = epoch + 1, merged()
            if epoch + 1 - best >= options.patience:
                break
    model.load_state_dict(best_state)
    model.eval()
    return Fitted(validation_mm=tuple(errors), best_epoch=best)


def _mpjpe(model: nn.Module, body: BodyModel, sets: Sequence[PeopleDataset]) -> float:
    return mean(evaluate(model, body, people).mpjpe_mm or 0.0 for people in sets)


@torch.no_grad()
def held_back(
    start: nn.Module, model: nn.Module, error: Callable[[nn.Module], float], limit: float
) -> float:
    """Takes a model back towards where it began until an error is within its limit.

    Weights are interpolated (Wortsman et al., CVPR 2022, arXiv 2109.01903): what was learned is
    lost more slowly on the way back than what was forgotten returns.

    Args:
        start: Where learning began.
        model: What was learned; changed.
        error: Of a model.
        limit: Largest that is allowed.

    Returns:
        Share of the way that is left; 0 where even the first weights are beyond the limit.
    """
    first, last = start.state_dict(), copy.deepcopy(model.state_dict())
    for share in SHARES:
        model.load_state_dict({name: _between(first[name], last[name], share) for name in last})
        if error(model) <= limit:
            return share
    model.load_state_dict(first)
    return 0.0


def _between(first: Tensor, last: Tensor, share: float) -> Tensor:
    return first.lerp(last, share) if share < 1 and first.is_floating_point() else last


@contextmanager
def moving(
    model: nn.Module, trainable: str, seed: int
) -> Iterator[Callable[[], dict[str, Tensor]]]:
    """Leaves trainable what is asked for; yields a function that gives the weights as they are.

    Running statistics of normalization stay those of the shared model: a person's few pictures
    would bend them.
    """
    with ExitStack() as stack:
        if trainable == "lora":
            stack.enter_context(only_low_rank_trains(model, LORA_RANK, seed))
        elif trainable == "norms":
            stack.enter_context(only_norms_train(model))
        else:
            stack.enter_context(only_head_trains(model, trainable == "head"))
        stack.enter_context(frozen_norms(model, every=True))
        yield lambda: merged_state(model)


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights, low-rank corrections added in."""
    part = model._modules.get("low_rank")
    state = {n: v.clone() for n, v in model.state_dict().items() if not n.startswith("low_rank.")}
    if part is not None:
        with torch.no_grad():
            for name, correction in part.corrections():  # pyright: ignore
                state[name] += correction
    return state


def pull_back(model: nn.Module, optimizer: torch.optim.Optimizer, strength: float) -> None:
    """Moves weights towards where they began before every step, by learning rate times strength."""
    weights = [p for p in model.parameters() if p.requires_grad]
    anchors = [p.detach().clone() for p in weights]

    @torch.no_grad()
    def pull(*_: object) -> None:
        rate = optimizer.param_groups[0]["lr"] * strength
        for weight, anchor in zip(weights, anchors, strict=True):
            weight.lerp_(anchor, min(rate, 1.0))

    if strength:
        optimizer.register_step_pre_hook(pull)
