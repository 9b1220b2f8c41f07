"""An animated scene as glTF 2.0: one skinned mesh a person, in binary or as text.

Written by hand from the specification, since the mesh library at hand writes no skins. Four bones
carry a vertex, as viewers expect; pose correctives of other bodies are left out. A person who is
not there in some frames is shrunk to nothing in them.
"""

import base64
import json
import struct
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial.transform import Rotation

from pchmr.body import BodyModel
from pchmr.body.joints import SMPL_24
from pchmr.data.synthetic.normals import vertex_normals
from pchmr.door import Json
from pchmr.predict.drawing import color_of
from pchmr.predict.motion import Motion

BONES = 4  # a vertex
FLOAT, UNSIGNED_BYTE, UNSIGNED_INT = 5126, 5121, 5125
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
KINDS = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (16,): "MAT4"}
MAGIC, VERSION, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 2, 0x4E4F534A, 0x004E4942


@dataclass
class _Scene:
    """A glTF document that grows, and the bytes that it speaks of."""

    document: Json = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)

    def put(self, section: str, item: Json) -> int:
        """Adds an item to a section; returns its index."""
        items = self.document.setdefault(section, [])
        items.append(item)
        return len(items) - 1

    def array(
        self, values: ndarray, component: int, *, target: int | None = None, limits: bool = False
    ) -> int:
        """Adds an accessor of its own view; returns its index."""
        kind = {FLOAT: "<f4", UNSIGNED_BYTE: "u1", UNSIGNED_INT: "<u4"}[component]
        data = np.ascontiguousarray(values, dtype=kind)
        self.content.extend(b"\0" * (-len(self.content) % 4))
        view = {"buffer": 0, "byteOffset": len(self.content), "byteLength": data.nbytes}
        self.content.extend(data.tobytes())
        item: Json = {
            "bufferView": self.put("bufferViews", view | ({"target": target} if target else {})),
            "componentType": component,
            "count": len(data),
            "type": KINDS[data.shape[1:]],
        }
        if limits:
            low, high = np.atleast_1d(data.min(axis=0)), np.atleast_1d(data.max(axis=0))
            item |= {"min": low.tolist(), "max": high.tolist()}
        return self.put("accessors", item)


def glb_bytes(people: list[Motion], body: BodyModel) -> bytes:
    """The scene as one binary file."""
    scene = _scene(people, body)
    scene.content.extend(b"\0" * (-len(scene.content) % 4))
    _note_buffer(scene, {})
    text = json.dumps(scene.document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(scene.content)
    head = struct.pack("<III", MAGIC, VERSION, size)
    chunks = struct.pack("<II", len(text), JSON_CHUNK), text
    binary = struct.pack("<II", len(scene.content), BINARY_CHUNK), bytes(scene.content)
    return b"".join((head, *chunks, *binary))


def gltf_text(people: list[Motion], body: BodyModel) -> str:
    """The scene as one text file that holds its own bytes."""
    scene = _scene(people, body)
    data = base64.b64encode(scene.content).decode()
    uri = f"data:application/octet-stream;base64,{data}"
    _note_buffer(scene, {"uri": uri})
    return json.dumps(scene.document, separators=(",", ":"))


def _note_buffer(scene: _Scene, place: dict[str, str]) -> None:
    """Says where the bytes are, if there are any: an empty list of buffers is not allowed."""
    if scene.content:
        scene.document["buffers"] = [{"byteLength": len(scene.content)} | place]


def _scene(people: list[Motion], body: BodyModel) -> _Scene:
    scene = _Scene({"asset": {"version": "2.0", "generator": "pchmr"}, "scene": 0})
    skin, roots = strongest_bones(body), []
    for motion in people:
        roots += _add_person(scene, motion, body, skin)
    scene.put("scenes", {"nodes": roots} if roots else {})
    return scene


def strongest_bones(
    body: BodyModel,
) -> tuple[Int[ndarray, "vertices 4"], Float[ndarray, "vertices 4"]]:
    """The four bones that carry each vertex most, and their shares, which sum to 1."""
    shares, bones = body.weights.sort(dim=1, descending=True)
    shares = shares[:, :BONES] / shares[:, :BONES].sum(dim=1, keepdim=True)
    bones = torch.where(shares > 0, bones[:, :BONES], 0)
    return bones.cpu().numpy(), shares.cpu().numpy()


def _add_person(
    scene: _Scene,
    motion: Motion,
    body: BodyModel,
    skin: tuple[ndarray, ndarray],
) -> list[int]:
    """Adds mesh, skeleton, skin and animation; returns the nodes of the scene's root."""
    name = f"person_{motion.number}"
    joints = _add_skeleton(scene, motion, body, name)
    inverse = np.tile(np.eye(4), (len(joints), 1, 1))
    inverse[:, :3, 3] = -motion.rest
    columns = inverse.transpose(0, 2, 1).reshape(-1, 16)
    bind = scene.array(columns, FLOAT)
    bones = {"inverseBindMatrices": bind, "joints": joints, "skeleton": joints[0]}
    own = scene.put("skins", bones | {"name": name})
    mesh = _add_mesh(scene, motion, body, skin)
    node = scene.put("nodes", {"name": f"{name}_mesh", "mesh": mesh, "skin": own})
    _animate(scene, motion, joints)
    return [joints[0], node]


def _add_skeleton(scene: _Scene, motion: Motion, body: BodyModel, name: str) -> list[int]:
    """A node a joint, in the rest pose; names of the second person's joints are their own."""
    first = len(scene.document.get("nodes", []))
    joints = [first + joint for joint in range(len(body.parents))]
    for joint, parent in enumerate(body.parents):
        offset = motion.rest[joint] - (motion.rest[parent] if parent >= 0 else 0)
        children = [joints[child] for child, above in enumerate(body.parents) if above == joint]
        node = {"name": f"{name}_{SMPL_24.names[joint]}", "translation": offset.tolist()}
        scene.put("nodes", node | ({"children": children} if children else {}))
    return joints


def _add_mesh(
    scene: _Scene,
    motion: Motion,
    body: BodyModel,
    skin: tuple[ndarray, ndarray],
) -> int:
    betas = torch.as_tensor(motion.betas).to(body.v_template)
    rest = body.v_template + body.shapedirs[..., : len(betas)] @ betas
    normals = vertex_normals(rest[None], body.faces)[0]
    normals = normals / normals.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    bones, shares = skin
    corners = body.faces.cpu().numpy().reshape(-1)
    attributes = {
        "POSITION": scene.array(rest.cpu().numpy(), FLOAT, target=ARRAY_BUFFER, limits=True),
        "NORMAL": scene.array(normals.cpu().numpy(), FLOAT, target=ARRAY_BUFFER),
        "JOINTS_0": scene.array(bones, UNSIGNED_BYTE, target=ARRAY_BUFFER),
        "WEIGHTS_0": scene.array(shares, FLOAT, target=ARRAY_BUFFER),
    }
    surface = {
        "baseColorFactor": [*color_of(motion.number), 1.0],
        "metallicFactor": 0.0,
        "roughnessFactor": 0.7,
    }
    primitive = {
        "attributes": attributes,
        "indices": scene.array(corners, UNSIGNED_INT, target=ELEMENT_ARRAY_BUFFER),
        "material": scene.put("materials", {"pbrMetallicRoughness": surface}),
    }
    return scene.put("meshes", {"name": f"person_{motion.number}", "primitives": [primitive]})


def _animate(scene: _Scene, motion: Motion, joints: list[int]) -> None:
    """Turns of all joints, the path of the pelvis, and where the person is there at all.

    All people are in one animation, since viewers play one at a time.
    """
    times = scene.array(motion.time_seconds, FLOAT, limits=True)
    if "animations" not in scene.document:
        scene.put("animations", {"name": "clip", "samplers": [], "channels": []})
    animation = scene.document["animations"][0]
    samplers, channels = animation["samplers"], animation["channels"]

    def follow(joint: int, path: str, values: ndarray, at: int, how: str = "LINEAR") -> None:
        output = scene.array(values, FLOAT)
        samplers.append({"input": at, "output": output, "interpolation": how})
        target = {"node": joint, "path": path}
        channels.append({"sampler": len(samplers) - 1, "target": target})

    follow(joints[0], "translation", motion.root, times)
    for row, joint in enumerate(joints):
        follow(joint, "rotation", quaternions(motion.rotmat[:, row]), times)
    if not motion.present.all():
        shown = np.repeat(motion.present[:, None].astype(np.float64), 3, axis=1)
        every = scene.array(motion.clip_seconds, FLOAT, limits=True)
        follow(joints[0], "scale", shown, every, "STEP")


def quaternions(rotmat: Float[ndarray, "frames 3 3"]) -> Float[ndarray, "frames 4"]:
    """Unit quaternions (x, y, z, w), each on the side of the one before."""
    found = Rotation.from_matrix(rotmat).as_quat()
    sides = np.sign((found[1:] * found[:-1]).sum(axis=-1))
    found[1:] *= np.cumprod(np.where(sides < 0, -1.0, 1.0))[:, None]
    return found
