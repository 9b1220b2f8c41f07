"""Was this picture trained on? The likelihood of an update under a picture's gradient.

A client that trained on a picture moves along the picture's negative gradient. How much, is held
against what clients that surely had not seen it do (the offline form of LiRA, Carlini et al. 2022,
arXiv 2112.03570, with updates in place of shadow models). Non-members are other pictures of the
same persons. The score is linear in the update, so that of a sum is the mean of its members'.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from pchmr.privacy.audit.figures import Figure, area_under_curve, interval_of, true_positives
from pchmr.privacy.audit.replay import Replay, Values
from pchmr.training import step_terms

REFERENCE = 40  # clients without the picture, whose updates say what is usual
FORMS = ("gradient", "sign")


@dataclass(frozen=True)
class Candidates:
    """Pictures that may have been trained on.

    Attributes:
        rows: Of the data set.
        person: Who is in each, by number.
        is_member: Whether the person's client trained on it.
    """

    rows: Int[np.ndarray, " n"]
    person: Int[np.ndarray, " n"]
    is_member: Bool[np.ndarray, " n"]


def candidates_of(replay: Replay, people: np.ndarray, most: int) -> Candidates:
    """As many training pictures as others of each person, at most `most` of each kind."""
    rows, person, member = [], [], []
    for one in people:
        own, others = replay.cast.rows[one], replay.cast.others[one]
        count = min(most, len(own), len(others))
        rows += [*own[:count], *others[:count]]
        person += [one] * 2 * count
        member += [True] * count + [False] * count
    return Candidates(np.array(rows), np.array(person), np.array(member))


def gradient(replay: Replay, row: int) -> Values:
    """Of the training loss on one picture, in the layout of updates; no augmentation."""
    named = dict(replay.model.named_parameters())
    wanted = [named[slot.name] for slot in replay.spec.parameters]
    replay.model.train()
    sample = replay.cast.people.batch([row])
    sample = sample.to(replay.body.v_template.device)
    options = replay.config.optim_options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        terms = step_terms(replay.model, replay.body, sample, options, epoch=0.0)
        total = torch.stack(list(terms.values())).sum()
        found = torch.autograd.grad(total, wanted, allow_unused=True)
    pieces = [
        torch.zeros(p.numel()) if g is None else g.detach().cpu().reshape(-1)
        for p, g in zip(wanted, found, strict=True)
    ]
    return torch.cat(pieces).numpy()


@dataclass(frozen=True)
class Agreement:
    """How far each client went along each picture's negative gradient.

    Attributes:
        people: The clients.
        table: By form of the gradient, client by picture, in deviations of the reference clients.
        noise: By form, what unit noise on an update adds to each picture's score, its deviation.
    """

    people: np.ndarray
    table: dict[str, Float[np.ndarray, "people pictures"]]
    noise: dict[str, Float[np.ndarray, " pictures"]]


def agreement(
    replay: Replay,
    found: Candidates,
    people: np.ndarray,
    updates: Float[np.ndarray, "people size"],
    reference: Float[np.ndarray, "others size"],
) -> Agreement:
    """Scores of all clients and pictures.

    Args:
        replay: Of the run.
        found: The pictures.
        people: Clients that are attacked.
        updates: What they sent.
        reference: What others sent.
    """
    replay.load(replay.start)
    tables = {form: np.empty((len(people), len(found.rows)), dtype=np.float32) for form in FORMS}
    noise = {form: np.empty(len(found.rows)) for form in FORMS}
    for place, row in enumerate(found.rows):
        slope = -gradient(replay, int(row))
        for form, vector in zip(FORMS, (slope, np.sign(slope)), strict=True):
            usual = reference @ vector
            spread = max(float(usual.std()), 1e-30)
            tables[form][:, place] = (updates @ vector - usual.mean()) / spread
            noise[form][place] = float(np.linalg.norm(vector)) / spread
    return Agreement(people, tables, noise)


def summed(
    scores: Float[np.ndarray, "people pictures"],
    found: Candidates,
    people: np.ndarray,
    weights: Float[np.ndarray, " people"],
    cohort: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, " pictures"]:
    """Each picture's score in a sum that its person's client is part of."""
    place = {int(person): i for i, person in enumerate(people)}
    out = np.empty(len(found.rows))
    members: dict[int, np.ndarray] = {}
    for i, person in enumerate(found.person.tolist()):
        if person not in members:
            others = np.delete(np.arange(len(people)), place[person])
            members[person] = np.append(rng.permutation(others)[: cohort - 1], place[person])
        chosen = members[person]
        out[i] = weights[chosen] @ scores[chosen, i] / weights[chosen].sum()
    return out


def figures(
    attack: str,
    scores: Float[np.ndarray, " pictures"],
    found: Candidates,
    ceiling: tuple[float, float],
    seed: int,
    what: str,
) -> list[Figure]:
    """AUC, and true positives at 1 % false ones; intervals are over persons."""
    people = np.unique(found.person)
    rows = [np.flatnonzero(found.person == person) for person in people]

    def over(statistic, drawn: np.ndarray) -> float:
        chosen = np.concatenate([rows[k] for k in drawn])
        return statistic(scores[chosen], found.is_member[chosen])

    made = []
    every = np.arange(len(people))
    named = (
        ("auc", area_under_curve, 0.5, ceiling[0], "AUC"),
        ("tpr_at_1_fpr", true_positives, 0.01, ceiling[1], "share"),
    )
    for name, statistic, chance, most, unit in named:
        made.append(
            Figure(
                attack=attack,
                name=name,
                value=over(statistic, every),
                interval=interval_of(lambda d, s=statistic: over(s, d), len(people), seed),
                chance=chance,
                ceiling=most,
                unit=unit,
                n=len(found.rows),
                means=f"training pictures told from other pictures of the same persons, {what}",
            )
        )
    return made
