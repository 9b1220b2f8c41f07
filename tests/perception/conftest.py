"""The fits of the annotation room's tests, for what a prior's word does to a fit."""

from tests.annotate.conftest import annotator, clean, noisy, people

__all__ = ["annotator", "clean", "noisy", "people"]
