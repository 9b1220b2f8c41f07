"""The person: body model, mesh levels, joint sets, and the loaders of body files."""

from pchmr.body.files import load_body
from pchmr.body.hierarchy import HierarchyError, MeshHierarchy, gather_table
from pchmr.body.model import BodyModel
from pchmr.body.skinning import BodyOutput

__all__ = [
    "BodyModel",
    "BodyOutput",
    "HierarchyError",
    "MeshHierarchy",
    "gather_table",
    "load_body",
]
