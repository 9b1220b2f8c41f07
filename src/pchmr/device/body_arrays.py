"""A body as one file of arrays for a browser tab: skin, chain, and the points a fit pulls at.

The tab's twin of `annotate/rig.py` and `annotate/kinematics.py` reads it; see web/pages/body.js.
"""

import json
import struct
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy import ndarray

from pchmr.annotate.deposer import START_SHARE, YAWS, Annotator
from pchmr.annotate.rig import join, rig_vertices
from pchmr.body import BodyModel
from pchmr.body.joints import H36M_17, SMPL_24
from pchmr.body.skinning import NUM_BETAS
from pchmr.perception.blazepose.landmarks import NAMES
from pchmr.perception.names import read_names
from pchmr.predict.formats.bvh import end_points, rest_of_template

BONES = 6  # that carry a vertex in the tab
A_BONE = 4  # vertices of a bone that the fit to a mesh pulls at
SOLID = 0.6  # share of its bone from which a vertex is one of them
KINDS = {"f4": "<f4", "u4": "<u4", "u1": "u1"}
UNSIGNED = ("mesh_rows", "hip_rows", "faces")
BYTES = ("bones", "landmark_columns")


def pack(about: Mapping[str, object], arrays: Mapping[str, ndarray]) -> bytes:
    """Length of the header, the header as JSON, the arrays one after the other."""
    content, places = bytearray(), {}
    for name, values in arrays.items():
        kind = "u4" if name in UNSIGNED else "u1" if name in BYTES else "f4"
        content.extend(b"\0" * (-len(content) % 4))
        places[name] = {"kind": kind, "offset": len(content), "count": values.size}
        content.extend(np.ascontiguousarray(values, dtype=KINDS[kind]).tobytes())
    header = json.dumps({"about": about, "arrays": places}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 4)
    return struct.pack("<I", len(header)) + header + bytes(content)


def body_bytes(annotator: Annotator) -> bytes:
    """Everything that the tab must know of a body and of the pose prior."""
    body = annotator.body
    reading = read_names(NAMES)
    rows = mesh_rows(body)
    landmarks = annotator.points.rig.take(annotator.points.indices(reading.points))
    rig = join([landmarks, rig_vertices(body, torch.tensor(rows))])
    shares, bones = body.weights.sort(dim=1, descending=True, stable=True)
    starts = torch.cat([annotator.start(1, yaw, START_SHARE).rotmat for yaw in YAWS])
    hips = hip_shares(body)
    likeliest = int(annotator.prior.constant.argmin())
    arrays = {
        "template": body.v_template,
        "shapedirs": body.shapedirs[..., :NUM_BETAS],
        "bones": bones[:, :BONES],
        "shares": shares[:, :BONES] / shares[:, :BONES].sum(dim=1, keepdim=True),
        "faces": body.faces,
        "joints": annotator.skeleton.joints,
        "joint_dirs": annotator.skeleton.joint_dirs,
        "rig_template": rig.template,
        "rig_dirs": rig.shapedirs,
        "rig_weights": rig.weights,
        "starts": starts,
        "prior_mean": annotator.prior.mean[likeliest],
        "prior_whitening": annotator.prior.whitening[likeliest],
        "mesh_rows": torch.tensor(rows),
        "landmark_columns": torch.tensor(reading.columns),
        "hip_rows": torch.tensor(list(hips)),
        "hip_shares": torch.tensor(list(hips.values())),
    }
    rest = rest_of_template(body)
    about = {
        "parents": list(body.parents),
        "joint_names": list(SMPL_24.names),
        "num_landmarks": len(landmarks),
        "num_starts": len(starts),
        "ends": {str(joint): end.tolist() for joint, end in end_points(rest, body).items()},
    }
    return pack(about, {name: values.cpu().numpy() for name, values in arrays.items()})


def mesh_rows(body: BodyModel) -> list[int]:
    """Vertices spread over every bone: each the farthest from those chosen before it."""
    own = body.weights.argmax(dim=1)
    rows: list[int] = []
    for bone in range(len(body.parents)):
        mine = ((own == bone) & (body.weights[:, bone] > SOLID)).nonzero()[:, 0]
        rows += _spread(body.v_template, mine.tolist())
    return rows


def _spread(template: torch.Tensor, rows: Sequence[int]) -> list[int]:
    if not rows:
        return []
    places = template[list(rows)]
    chosen = [int((places - places.mean(dim=0)).norm(dim=-1).argmax())]
    while len(chosen) < min(A_BONE, len(rows)):
        chosen.append(int(torch.cdist(places, places[chosen]).amin(dim=1).argmax()))
    return [rows[at] for at in chosen]


def hip_shares(body: BodyModel) -> dict[int, float]:
    """Share of each vertex in the middle of the hips, about which the network's meshes stand."""
    joint_set = H36M_17 if body.has_regressor(H36M_17) else SMPL_24
    rows = body.get_buffer(joint_set.regressor or "J_regressor")
    row = rows[list(joint_set.indices(("left_hip", "right_hip")))].mean(dim=0)
    return {vertex: float(row[vertex]) for vertex in row.nonzero()[:, 0].tolist()}
