"""How far off a label probably is: signals of a fit, a calibrated predictor in mm, a verdict."""

from pchmr.annotate.quality.inspection import Inspection, inspect
from pchmr.annotate.quality.predictor import (
    ALONE,
    ASSET,
    ErrorPredictor,
    coverage_curve,
    fit_predictor,
    is_usual,
    isotonic,
    load_predictors,
    predict_mm,
    save_predictors,
    why_unknown,
)
from pchmr.annotate.quality.verdicts import known_errors, verdicts

__all__ = [
    "ALONE",
    "ASSET",
    "ErrorPredictor",
    "Inspection",
    "coverage_curve",
    "fit_predictor",
    "inspect",
    "is_usual",
    "isotonic",
    "known_errors",
    "load_predictors",
    "predict_mm",
    "save_predictors",
    "verdicts",
    "why_unknown",
]
