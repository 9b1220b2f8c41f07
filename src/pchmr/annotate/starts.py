"""The current HMR network's prediction as one more start of the fit, for every mode alike."""

from dataclasses import dataclass
from pathlib import Path

import torch

from pchmr.annotate.deposer import Start
from pchmr.body import BodyModel
from pchmr.body.fit import fit_body
from pchmr.body.skinning import NUM_BETAS
from pchmr.config import ModelOptions
from pchmr.data.crops import check_box
from pchmr.data.errors import InputError
from pchmr.door import Json
from pchmr.geometry import rotvec_to_rotmat
from pchmr.inference.predictor import Person, Predictor
from pchmr.models import HMRModel, load_model
from pchmr.perception.interfaces import Box, Image
from pchmr.runs import state_sha256

START_STEPS = 0  # of the fit to the predicted mesh, beyond its rigid parts: more changed no result


@dataclass(frozen=True)
class HmrStarts:
    """A network whose meshes become parameters, and where its weights come from."""

    predictor: Predictor
    provenance: Json

    @classmethod
    def open(cls, body: BodyModel, checkpoint: Path | None) -> "HmrStarts":
        """The network of a checkpoint, or the shipped one.

        Raises:
            SettingError: The checkpoint cannot be read or belongs to another body.
        """
        model, started_from = load_model(
            ModelOptions(checkpoint=checkpoint), body.hierarchy, seed=0
        )
        model.to(body.v_template.device).eval()
        about = {name: started_from.get(name) for name in ("kind", "name", "sha256")}
        return cls(Predictor(model, body, model.image_size), about)

    @classmethod
    def of(cls, model: HMRModel, body: BodyModel) -> "HmrStarts":
        """A network at hand."""
        about = {"kind": "given", "sha256": state_sha256(model.state_dict())}
        return cls(Predictor(model, body, model.image_size), about)

    @torch.no_grad()
    def start(self, image: Image, box: Box) -> Start:
        """The start of one picture; a box that is of no use gives the person of the whole of it."""
        height, width = image.shape[:2]
        corners = (box.x, box.y, box.x + box.width, box.y + box.height)
        try:
            check_box(corners, width, height)
        except InputError:
            corners = None
        return start_of(self.predictor.body, self.predictor.predict(image, corners))


@torch.no_grad()
def start_of(body: BodyModel, person: Person) -> Start:
    """The parameters that lie close to a predicted mesh."""
    vertices = person.vertices[None].to(body.v_template)
    fit = fit_body(body, vertices, max_steps=START_STEPS)
    rotvec = torch.cat([fit.global_orient[:, None], fit.body_pose], dim=1)
    return Start(rotvec_to_rotmat(rotvec), fit.betas[:, :NUM_BETAS])


def stack_starts(starts: list[Start]) -> Start:
    """Starts of single frames as one of all."""
    rotmat = torch.cat([start.rotmat for start in starts])
    return Start(rotmat, torch.cat([start.betas for start in starts]))
