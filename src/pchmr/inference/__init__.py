"""Crops in, meshes out: the network as a library. The verb `predict` is a room of its own."""

from pchmr.inference.predictor import Person, Predictor

__all__ = ["Person", "Predictor"]
