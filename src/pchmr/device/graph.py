"""From a network to a static ONNX graph: one RGB crop in [0, 1] in, mesh and camera out.

The graph holds what depends on weights alone as constants (`HMRModel.pinned_copy`) and normalizes
the crop itself. It carries no source paths.
"""

import ast
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pchmr.models import HMRModel
from pchmr.models.smpl_head import NUM_ROTATIONS

OPSET = 20
INPUT = "image"
OUTPUTS = ("camera", "joints", "vertices_coarse", "vertices_mid", "vertices")
SMPL_OUTPUTS = ("rotmat", "betas")
NEWTON_STEPS = 12
TINY = 1e-12
SCOPES = "pkg.torch.onnx.name_scopes"


def output_names(model: HMRModel) -> tuple[str, ...]:
    """Names of the graph's outputs."""
    return OUTPUTS + (SMPL_OUTPUTS if model.choice.smpl_head else ())


def polar_rotation(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """What `smpl_head.nearest_rotation` computes, without the SVD that ONNX lacks.

    Newton's iteration for the polar factor, scaled by Frobenius norms (Higham 1986); the inverse
    transpose of a 3x3 matrix is its cofactors, cross products of rows, over its determinant.
    """
    x = matrix / matrix.square().sum(dim=(-2, -1), keepdim=True).sqrt().clamp_min(TINY)
    sign = _determinant(x, _cofactors(x)).sign()
    for _ in range(NEWTON_STEPS):
        cofactors = _cofactors(x)
        determinant = _determinant(x, cofactors)
        inverse = cofactors / torch.where(determinant.abs() < TINY, TINY, determinant)
        sizes = (part.square().sum(dim=(-2, -1), keepdim=True) for part in (inverse, x))
        scale = torch.div(*sizes).sqrt().sqrt()
        x = (scale * x + inverse / scale) / 2
    return x * sign


def _cofactors(x: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    a, b, c = x.unbind(dim=-2)
    pairs = ((b, c), (c, a), (a, b))
    return torch.stack([torch.linalg.cross(u, v) for u, v in pairs], dim=-2)


def _determinant(
    x: Float[Tensor, "*batch 3 3"], cofactors: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch 1 1"]:
    return (x * cofactors).sum(dim=-1, keepdim=True)[..., :1, :]


class MeshGraph(nn.Module):
    """The network as the exporter traces it: a tuple out, constants in place, no SVD."""

    def __init__(self, model: HMRModel) -> None:
        super().__init__()
        self.model = model.pinned_copy()
        self.smpl_head = self.model.smpl_parameter_regressor
        self.model.smpl_parameter_regressor = None

    def forward(self, image: Float[Tensor, "1 3 height width"]) -> tuple[Tensor, ...]:
        """The outputs that `output_names` lists."""
        output = self.model(image)
        found = tuple(getattr(output, name) for name in OUTPUTS)
        if self.smpl_head is None:
            return found
        values = self.smpl_head.regressor(output.vertices_mid.flatten(1))
        rotations, betas = values[:, : 9 * NUM_ROTATIONS], values[:, 9 * NUM_ROTATIONS :]
        return *found, polar_rotation(rotations.unflatten(1, (NUM_ROTATIONS, 3, 3))), betas


def export_model(model: HMRModel, path: Path) -> None:
    """Writes a network as a static graph for one crop of its own size."""
    write_graph(MeshGraph(model), model.image_size, output_names(model), path)


def write_graph(module: nn.Module, image_size: int, outputs: Sequence[str], path: Path) -> None:
    """Writes a function of one crop as ONNX, nodes named by module, without source paths."""
    example = torch.zeros(1, 3, image_size, image_size)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.cpu().eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(outputs),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    _name_nodes(graph)
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def _name_nodes(model: onnx.ModelProto) -> None:
    """Names nodes `module/operator_number`, and drops the traces of where code was."""
    for number, node in enumerate(model.graph.node):
        notes = {note.key: note.value for note in node.metadata_props}
        scopes = ast.literal_eval(notes.get(SCOPES, "[]"))
        module = (scopes[-2] if len(scopes) > 1 else "").removeprefix("model").lstrip(".")
        node.name = f"{module}/{node.op_type}_{number}"
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for initializer in graph.initializer:
        initializer.ClearField("metadata_props")


@contextmanager
def quiet() -> Iterator[None]:
    """Mutes what exporter and quantizer tell their own developers; errors are raised anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
