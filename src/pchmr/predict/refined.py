"""The body fitted to what was seen of everybody in a picture, before one camera.

The network's meshes, joints in space and four sides to look from are where fits begin; the lowest
robust cost wins. A focal length that nobody knows is estimated from all people together.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from pchmr.annotate.deposer import MODES, Annotator, Fit, Start, run_stages
from pchmr.annotate.modes import best_mode
from pchmr.annotate.observed import Observations


def fit_people(annotator: Annotator, seen: Observations, starts: Sequence[Start] = ()) -> Fit:
    """Fits the people of one picture, one a frame of the observations."""
    mode = MODES[best_mode(seen)]
    fit = annotator.fit(seen, mode, starts)
    if len(seen) == 1 or not bool((fit.objective.evidence.focal_sd > 0).all()):
        return fit
    evidence = fit.objective.evidence
    trust = evidence.confidence.sum(dim=-1).clamp_min(1e-6)
    shared = (trust * fit.state.log_focal).sum() / trust.sum()
    focal = evidence.focal * shared.exp()
    held = replace(evidence, focal=focal, focal_sd=torch.zeros_like(focal))
    objective = replace(fit.objective, evidence=held)
    transl = fit.state.transl.clone()
    transl[:, 2] *= (shared - fit.state.log_focal).exp()
    state = fit.state._replace(log_focal=torch.zeros_like(focal), transl=transl)
    last = (mode if seen.keypoints_3d is None else mode.near).refine[-1:]
    done = run_stages(objective, last, state)
    return replace(fit, state=done.state, energy=done.energy, objective=objective)
