"""Labels of a person's own pictures, made where the pictures are; nothing leaves the device.

`run` is what `pchmr annotate` calls, `manage` what `pchmr labels` calls. For use as a library:
`Annotator`, `MODES`, `load_observations`, `fit_prior`, `save_prior`, `fit_predictor`.
"""

from pchmr.annotate.custody import manage
from pchmr.annotate.deposer import MODES, Annotator, Fit, Start
from pchmr.annotate.fitting import Labeler
from pchmr.annotate.job import run
from pchmr.annotate.observations import load_observations
from pchmr.annotate.observed import Observations
from pchmr.annotate.prior import PosePrior, fit_prior, load_prior, save_prior
from pchmr.annotate.quality import fit_predictor, inspect, save_predictors

__all__ = [
    "MODES",
    "Annotator",
    "Fit",
    "Labeler",
    "Observations",
    "PosePrior",
    "Start",
    "fit_predictor",
    "fit_prior",
    "inspect",
    "load_observations",
    "load_prior",
    "manage",
    "run",
    "save_predictors",
    "save_prior",
]
