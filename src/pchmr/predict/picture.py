"""The people of one picture: found, predicted, refined, placed before its camera.

`people_of` is what a picture and a frame of a clip share; nothing here reads or writes a file.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.evidence import GUESSED_FOCAL
from pchmr.annotate.judging import Judge
from pchmr.annotate.observed import Observations
from pchmr.annotate.pictures import stack
from pchmr.annotate.quality import inspect
from pchmr.annotate.quality.agreement import (
    mirror_agreement,
    network_agreement,
    score,
    silhouette_agreement,
)
from pchmr.annotate.sightings import Found, intrinsics
from pchmr.annotate.starts import stack_starts, start_of
from pchmr.body import BodyModel
from pchmr.body.fit import fit_body
from pchmr.body.joints import SMPL_24
from pchmr.body.skinning import NUM_BETAS
from pchmr.data.crops import check_box, overlay_translation, square_around
from pchmr.data.errors import InputError
from pchmr.data.exif import FocalLength
from pchmr.geometry import rotmat_to_rotvec
from pchmr.inference import Person
from pchmr.inference.predictor import MIN_CAMERA_SCALE
from pchmr.perception.interfaces import Box, Image
from pchmr.perception.people import ALL, PeoplePrior, chosen
from pchmr.predict.joints import joint_names, named_joints
from pchmr.predict.people import People
from pchmr.predict.refined import fit_people
from pchmr.predict.tools import Tools

ROOM = 0.01  # metres before the camera where a mesh must begin
ARRAYS = ("vertices", "joints", "global_orient", "body_pose", "betas", "transl")


def people_of(
    image: Image,
    tools: Tools,
    focal: FocalLength | None = None,
    *,
    box: Box | None = None,
    who: str = ALL,
) -> People:
    """Everybody who is meant in a picture.

    Args:
        image: Upright picture.
        tools: What predicts.
        focal: Of its camera; without it, it is estimated.
        box: Of the one person who is meant; without it, people are looked for.
        who: Of those who are found: "all", "largest", or a number from 1.

    Raises:
        InputError: Nobody has the number.
        DivergedError: The network's answer is not finite.
    """
    everybody = [tools.boxed(image, box)] if box else tools.everybody(image)
    seen = [(row + 1, everybody[row]) for row in chosen(who, [one.box for one in everybody])]
    seen = [(number, found) for number, found in seen if is_usable(found.box, image)]
    if not seen:
        return nobody(image, tools, focal)
    numbers = np.array([number for number, _ in seen])
    found = [one for _, one in seen]
    persons = [tools.predictor.look(image, square_around(one.box.bbox_xyxy)) for one in found]
    observations = stack([tools.observed(image, one, focal) for one in found])
    if tools.annotator is None:
        height, width = image.shape[:2]
        told = placed(persons, _focal(image, focal), width, height, tools.body)
    else:
        told = refined(persons, tools.annotator, observations, tools.judge)
        told["score"] = _scores(image, found, persons, told, tools)
    return People(
        **told,
        joint_names=joint_names(tools.body),
        keypoints_2d=seen_keypoints(found, observations),
        keypoint_names=observations.keypoint_names,
        track_id=numbers,
        bbox_xyxy=np.array([one.box.bbox_xyxy for one in found]),
    )


def nobody(image: Image, tools: Tools, focal: FocalLength | None = None) -> People:
    """A picture in which no person was found."""
    height, width = image.shape[:2]
    body, names = tools.body, joint_names(tools.body)
    num_betas = body.num_betas if tools.annotator is None else NUM_BETAS
    return People(
        vertices=np.zeros((0, body.num_vertices, 3), np.float32),
        joints=np.zeros((0, len(names), 3), np.float32),
        joint_names=names,
        global_orient=np.zeros((0, 3), np.float32),
        body_pose=np.zeros((0, len(SMPL_24) - 1, 3), np.float32),
        betas=np.zeros((0, num_betas), np.float32),
        transl=np.zeros((0, 3), np.float32),
        intrinsics=intrinsics(_focal(image, focal), width, height),
        keypoints_2d=np.zeros((0, len(tools.prior.names), 3)),
        keypoint_names=tools.prior.names,
        track_id=np.zeros(0, dtype=np.int64),
        bbox_xyxy=np.zeros((0, 4)),
        score=None if tools.annotator is None else np.zeros(0),
    )


def _focal(image: Image, focal: FocalLength | None) -> float:
    return GUESSED_FOCAL * max(image.shape[:2]) if focal is None else focal.pixels


def is_usable(box: Box, image: Image) -> bool:
    """Whether a box is large enough, and inside the picture."""
    try:
        check_box(box.bbox_xyxy, image.shape[1], image.shape[0])
    except InputError:
        return False
    return True


def seen_keypoints(
    found: Sequence[Found], observations: Observations
) -> Float[ndarray, "people keypoints 3"]:
    """What was seen, with the confidence that the network itself gave."""
    own = zip(found, observations.keypoints_2d, strict=True)
    return np.stack([keys if one.person is None else one.person.keypoints for one, keys in own])


def _scores(
    image: Image,
    found: Sequence[Found],
    persons: Sequence[Person],
    told: dict[str, ndarray],
    tools: Tools,
) -> Float[ndarray, " people"]:
    """How well those who speak of each person agree."""
    prior, faces = tools.prior, tools.body.faces.cpu()
    scores = []
    for row, (one, predicted) in enumerate(zip(found, persons, strict=True)):
        vertices = torch.from_numpy(told["vertices"][row])
        voices = [network_agreement(vertices, predicted.vertices)]
        person, size = one.person, (image.shape[1], image.shape[0])
        if person is not None and isinstance(prior, PeoplePrior):
            voices += [
                person.score,
                mirror_agreement(person, prior.mirrored(image, person), prior.names),
                silhouette_agreement(person, vertices, faces, told["intrinsics"], size),
            ]
        scores.append(score(voices))
    return np.array(scores)


def placed(
    persons: Sequence[Person], focal: float, width: int, height: int, body: BodyModel
) -> dict[str, ndarray]:
    """The network's meshes where they cover what the network saw, and the closest parameters."""
    vertices = torch.stack([_before_camera(one, focal, width, height) for one in persons])
    vertices = vertices.to(body.v_template)
    fit = fit_body(body, vertices)
    found = (fit.global_orient, fit.body_pose, fit.betas, fit.transl)
    smpl = body(*found).joints
    joints = named_joints(body, vertices, smpl)
    return _arrays((vertices, joints, *found), intrinsics(focal, width, height))


def _before_camera(
    person: Person, focal: float, width: int, height: int
) -> Float[Tensor, "vertices 3"]:
    """The mesh where it stands; pushed away where its weak camera would put it at the lens."""
    camera = person.camera.clone()
    camera[0] = camera[0].clamp_min(MIN_CAMERA_SCALE)
    shift = overlay_translation(camera, person.square, focal, width, height)
    lacking = ROOM - float((person.vertices[:, 2] + shift[2]).min())
    return person.vertices + shift * (1 + max(lacking, 0.0) / shift[2])


def refined(
    persons: Sequence[Person],
    annotator: Annotator,
    observations: Observations,
    judge: Judge | None = None,
) -> dict[str, ndarray]:
    """The fit to what was seen of people; the network's word stays where it fails.

    Args:
        persons: What the network says of each: one start of the fit.
        annotator: Fits.
        observations: One frame a person.
        judge: Tells what becomes of each fit; without it, nothing is told.
    """
    body = annotator.body
    starts = stack_starts([start_of(body, one) for one in persons])
    fit = fit_people(annotator, observations, [starts])
    width, height = observations.image_size[0].tolist()
    seen = fit.objective.evidence
    focal = float((seen.focal * fit.state.log_focal.exp()).mean())
    rotvec = rotmat_to_rotvec(fit.state.rotmat)
    found = (rotvec[:, 0], rotvec[:, 1:], fit.state.betas, fit.state.transl)
    with torch.no_grad():
        output = body(*found)
        joints = named_joints(body, output.vertices, output.joints)
    told = _arrays((output.vertices, joints, *found), intrinsics(focal, width, height))
    if judge is not None:
        judged = judge.judge(observations, fit, inspect(annotator, fit), told["vertices"])
        told["predicted_error_mm"] = judged.predicted_mm
        told["status"], told["reason"] = judged.status, judged.reason
    is_sound = np.isfinite(told["vertices"]).all(axis=(1, 2))
    is_sound &= np.nan_to_num(told["vertices"][..., 2]).min(axis=1) > 0
    if not is_sound.all():
        other = placed(persons, focal, width, height, body)
        for name in ARRAYS:
            told[name][~is_sound] = other[name][~is_sound]
    return told


def _arrays(values: Sequence[Tensor], camera: Float[ndarray, "3 3"]) -> dict[str, ndarray]:
    found = {n: v.cpu().numpy() for n, v in zip(ARRAYS, values, strict=True)}
    return {**found, "intrinsics": camera}
