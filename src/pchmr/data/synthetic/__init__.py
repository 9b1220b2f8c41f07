"""Rendered people with exact labels: recipes, the renderer and the cached data set."""

from pchmr.data.synthetic.people import CacheError, SyntheticPeople, current_origin, origin_of
from pchmr.data.synthetic.recipe import RECIPE_VERSION, SyntheticRecipe

__all__ = [
    "RECIPE_VERSION",
    "CacheError",
    "SyntheticPeople",
    "SyntheticRecipe",
    "current_origin",
    "origin_of",
]
