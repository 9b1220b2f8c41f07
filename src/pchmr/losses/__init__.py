"""What training minimizes: pure terms, and a recipe a network family."""

from pchmr.losses.recipes import LOSSES, fastmetro, keypoints, tore, xs
from pchmr.losses.target import Prediction, Target, targets

__all__ = ["LOSSES", "Prediction", "Target", "fastmetro", "keypoints", "targets", "tore", "xs"]
