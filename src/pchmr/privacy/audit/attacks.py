"""The five attacks on one view, from gathered evidence to figures."""

from collections.abc import Callable

import numpy as np
import torch

from pchmr.federated.secure.policy import threshold_of
from pchmr.privacy.audit import crafted, inversion, membership
from pchmr.privacy.audit.evidence import Evidence, ServerView
from pchmr.privacy.audit.figures import Figure, area_under_curve, true_positives
from pchmr.privacy.audit.lineup import (
    Channel,
    figures,
    in_sums,
    line_up,
    sums_of,
)
from pchmr.privacy.audit.rounds import disentangled, lengths_of, season_of, sums_said
from pchmr.privacy.audit.sketch import Sketch

PICTURES = 6  # of a person that are asked about, and as many that no client has
NUM_PHASES = 3  # models of a run that a season is made of
TUNING_SHARE = 3  # one of so many persons chooses the form of the membership attack
NUM_INVERTED, NUM_MATCHED, NARROW = 40, 3, 512

Attack = Callable[[Evidence, ServerView], list[Figure]]


def shape(evidence: Evidence, view: ServerView) -> list[Figure]:
    """(a) Re-identification by body shape."""
    target = evidence.replay.cast.target
    gallery, weights = evidence.replay.cast.betas[target], evidence.weights[target]
    sums = sums_of(weights, view.members, evidence.seed)
    noise = evidence.noise(view, sums.parts)
    told = sums.parts @ evidence.said[target] + noise
    found = line_up(evidence.channel, told, gallery, sums.target, sums.share, sums.rest)
    best = in_sums(Channel.exact(gallery), gallery, gallery, sums)
    return figures("shape", found, best, evidence.seed, view.words)


def member(evidence: Evidence, view: ServerView) -> list[Figure]:
    """(b) Membership of single pictures."""
    replay = evidence.replay
    people = replay.cast.doubled
    choosing = people[::TUNING_SHARE]
    found = membership.candidates_of(replay, people, PICTURES)
    updates = np.stack([evidence.kept[p] for p in people])
    others = np.stack([evidence.kept[p] for p in evidence.reference])
    known = membership.agreement(replay, found, people, updates, others)
    weights, tuned = evidence.weights[people], np.isin(found.person, choosing)

    def scores(form: str, cohort: int) -> np.ndarray:
        rng = np.random.default_rng(evidence.seed)
        if view.name != "plain" and view.deviation and cohort > 1:
            jitter = known.noise[form] * view.deviation / cohort
        else:
            jitter = np.zeros(len(found.rows))
        mixed = membership.summed(known.table[form], found, people, weights, cohort, rng)
        return mixed + jitter * rng.standard_normal(len(mixed))

    form = max(
        membership.FORMS,
        key=lambda f: area_under_curve(scores(f, 1)[tuned], found.is_member[tuned]),
    )
    rest = membership.Candidates(found.rows[~tuned], found.person[~tuned], found.is_member[~tuned])
    alone = scores(form, 1)[~tuned]
    most = (1.0, 1.0)
    if view.members > 1:
        most = (area_under_curve(alone, rest.is_member), true_positives(alone, rest.is_member))
    reached = scores(form, min(view.members, len(people)))[~tuned]
    return membership.figures("membership", reached, rest, most, evidence.seed, view.words)


def reconstruction(evidence: Evidence, view: ServerView) -> list[Figure]:
    """(c) A picture from one step of a client that has one."""
    replay, cast = evidence.replay, evidence.replay.cast
    first, shadow = len(cast.rows), cast.num_singles
    clients = list(range(first, first + len(cast.singles)))
    known, asked = clients[:shadow], clients[shadow:][: max(NUM_INVERTED, view.members)]
    seen = {client: replay.seen(client) for client in [*known, *asked]}
    updates = {client: replay.update(client).copy() for client in asked}
    sketch = Sketch(replay.spec.parameters, NARROW)
    taught_on = np.stack([sketch(replay.update(c)) for c in known])
    small = np.concatenate([inversion.shrunk(seen[c].images) for c in known])
    attack = inversion.learned(taught_on, small, sketch.places)
    rng = np.random.default_rng(evidence.seed)
    mixed = []
    for one in asked[:NUM_INVERTED]:
        mates = rng.permutation(np.setdiff1d(asked, one))[: view.members - 1]
        mixed.append(np.mean([updates[c] for c in [one, *mates.tolist()]], axis=0))
    truth = torch.cat([seen[c].images for c in asked[:NUM_INVERTED]])
    features = np.stack([sketch(update) for update in mixed])
    guess = attack(features).astype(np.float32)
    usual = small.mean(0)
    found = inversion.figures("psnr_learned", guess, truth, usual, evidence.seed, view.words)
    replay.load(replay.start)
    better = [
        inversion.matched(replay, seen[c], update, first_guess, evidence.steps)
        for c, update, first_guess in zip(asked[:NUM_MATCHED], mixed, guess, strict=False)
    ]
    few = truth[: len(better)]
    return found + inversion.figures(
        "psnr_matched", np.stack(better), few, usual, evidence.seed, view.words
    )


def many_rounds(evidence: Evidence, view: ServerView) -> list[Figure]:
    """(d) Regression of the sums of many rounds on who took part."""
    cast, number = evidence.replay.cast, 2 * view.cohort
    people = cast.target[:number]
    if len(people) < number:
        return []
    said, weights = _season_said(evidence, people), evidence.weights[people]
    gallery, target = cast.betas[cast.target], np.arange(number)
    single = said.mean(0)
    known = line_up(evidence.channel, single, gallery, target, 1.0, 0.0)
    best = line_up(Channel.exact(gallery), gallery[:number], gallery, target, 1.0, 0.0)
    if view.name == "plain":
        words = f"from each client's updates in {NUM_PHASES} rounds"
        return figures("rounds", known, best, evidence.seed, words)
    made = []
    for num_rounds in lengths_of(number):
        season = season_of(number, view.cohort, num_rounds, NUM_PHASES, evidence.seed)
        told = sums_said(season, said, weights)
        told = told + evidence.noise(view, season.survivors.astype(float))
        totals = season.survivors @ weights
        solved = disentangled(season, told, totals)
        found = line_up(evidence.channel, solved, gallery, target, 1.0, 0.0)
        words = f"from {num_rounds} sums over {threshold_of(view.cohort)} of {number} clients"
        made += figures(f"rounds:{num_rounds}", found, known, evidence.seed, words)
    return made


def _season_said(evidence: Evidence, people: np.ndarray) -> np.ndarray:
    """What is said of some clients' updates while the model moves; (phases, clients, betas)."""
    replay, weights = evidence.replay, evidence.weights[people]
    model, said = replay.start, [evidence.said[people]]
    share = weights / weights.sum()
    for phase in range(1, NUM_PHASES):
        mean = np.zeros_like(replay.start)
        for part, person in zip(share, people, strict=True):
            mean += np.float32(part) * replay.update(int(person), model, phase)
        model = model + mean
        moved = [evidence.sketch(replay.update(int(p), model, phase + 1)) for p in people]
        features = np.stack(moved)
        drift = features.mean(0) - evidence.features[people].mean(0)
        said.append(evidence.attack(features - drift))
    return np.stack(said)


def one_crafted_model(evidence: Evidence, view: ServerView) -> list[Figure]:
    """(e) Traps in one model that everybody is shown."""
    replay = evidence.replay
    people = replay.cast.doubled
    asked = np.delete(people, np.s_[::TUNING_SHARE])
    found = membership.candidates_of(replay, asked, PICTURES)
    reference = np.concatenate([replay.cast.rows[p][:2] for p in replay.cast.shadow])
    traps = crafted.crafted(replay, found, reference)
    if traps is None:
        return []
    count = min(traps.shape[0], len(found.rows))
    found = membership.Candidates(found.rows[:count], found.person[:count], found.is_member[:count])
    options = replay.config.optim_options
    decay = options.learning_rate * options.weight_decay
    others = np.setdiff1d(replay.cast.target, people)[: max(0, view.members - len(asked))]
    crowd = np.concatenate([asked, others])
    moved = np.stack([traps.moved(replay.update(int(p), traps.weights), decay) for p in crowd])
    reached = _fired(moved, found, crowd, evidence, view.members)
    alone = _fired(moved, found, crowd, evidence, 1)
    most = (1.0, 1.0)
    if view.members > 1:
        most = (area_under_curve(alone, found.is_member), true_positives(alone, found.is_member))
    words = f"by one crafted model, {view.words}"
    return membership.figures("crafted", reached, found, most, evidence.seed, words)


def _fired(
    moved: np.ndarray,
    found: membership.Candidates,
    crowd: np.ndarray,
    evidence: Evidence,
    members: int,
) -> np.ndarray:
    """How far each candidate's trap moved in a sum that its person's client is part of."""
    rng, weights = np.random.default_rng(evidence.seed), evidence.weights[crowd]
    out = np.empty(len(found.rows))
    chosen: dict[int, np.ndarray] = {}
    for unit, person in enumerate(found.person.tolist()):
        own = int(np.flatnonzero(crowd == person)[0])
        if person not in chosen:
            mates = rng.permutation(np.delete(np.arange(len(crowd)), own))[: members - 1]
            chosen[person] = np.append(mates, own)
        rows = chosen[person]
        total = weights[rows] @ moved[rows, unit] / weights[rows].sum()
        out[unit] = np.linalg.norm(total)
    return out


ATTACKS: dict[str, Attack] = {
    "shape": shape,
    "membership": member,
    "reconstruction": reconstruction,
    "rounds": many_rounds,
    "crafted": one_crafted_model,
}
