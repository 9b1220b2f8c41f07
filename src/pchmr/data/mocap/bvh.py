"""BVH files: a skeleton of any proportions and its channels, retargeted by the names of joints.

Names of CMU's conversions, Mixamo and others are known; `retarget.py` brings their motion onto the
body. The world is y up, as BVH says.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from pchmr.data.errors import InputError
from pchmr.data.mocap.motion import Motion, thinned
from pchmr.data.mocap.retarget import Skeleton, retargeted
from pchmr.door import read_text
from pchmr.door.limits import MIB

MOST_BYTES = 256 * MIB
MOST_JOINTS, DEEPEST = 512, 64
AXES = {"Xrotation": "X", "Yrotation": "Y", "Zrotation": "Z"}
CHANNELS = (*AXES, "Xposition", "Yposition", "Zposition")
SIDES = {"left": ("left", "l"), "right": ("right", "r")}
NAMES: dict[str, tuple[str, ...]] = {
    "pelvis": ("hips", "hip", "pelvis", "root"),
    "spine1": ("lowerback", "spine", "spine01", "abdomen", "torso"),
    "spine2": ("spine1", "spine02", "upperback", "chest", "abdomen2"),
    "spine3": ("spine2", "spine3", "spine03", "upperchest", "chest2", "chest1", "thorax"),
    "neck": ("neck", "neck1", "neck01", "lowerneck"),
    "head": ("head",),
}
SIDED_NAMES: dict[str, tuple[str, ...]] = {
    "hip": ("upleg", "thigh", "upperleg", "femur", "hip"),
    "knee": ("leg", "shin", "knee", "lowerleg", "calf", "tibia"),
    "ankle": ("foot", "ankle"),
    "foot": ("toebase", "toe", "toes", "toe0", "ball"),
    "shoulder": ("arm", "upperarm", "shldr", "uparm", "humerus", "shoulder"),
    "collar": ("collar", "clavicle", "shoulder"),
    "elbow": ("forearm", "lowerarm", "elbow", "lowarm", "radius"),
    "wrist": ("hand", "wrist"),
}
"""Words for each of our joints, best first; a word goes to the first joint that it can mean."""
NEEDED = ("pelvis", *(f"{s}_{p}" for s in SIDES for p in ("hip", "knee", "shoulder", "elbow")))


@dataclass
class Node:
    """A joint of the file.

    Attributes:
        name: As written.
        parent: Place of the joint above; -1 for the root.
        offset: From there, at rest.
        channels: Names, in order.
        tip: Offset of the end of its last bone, where it has one.
    """

    name: str
    parent: int
    offset: Float[ndarray, "3"]
    channels: list[str] = field(default_factory=list)
    tip: Float[ndarray, "3"] | None = None


def read_bvh(path: Path, name: str, rest: Float[ndarray, "24 3"]) -> Motion:
    """The motion of a file on our skeleton.

    Args:
        path: Of the file.
        name: Of the motion.
        rest: Joints of our body in its rest pose, metres.

    Raises:
        UserError: It is damaged, or lacks a joint that a body needs.
    """
    text = read_text(path, MOST_BYTES)
    head, _, tail = text.partition("MOTION")
    nodes = _nodes(path, iter(head.split()))
    frames, rate = _frames(path, tail, sum(len(node.channels) for node in nodes))
    chosen = _chosen(path, nodes)
    world = _world(nodes, frames[thinned(len(frames), rate)])
    places = _rest_places(nodes)
    skeleton = Skeleton(
        rotations={ours: world[at] for ours, at in chosen.items()},
        places={ours: places[at] for ours, at in chosen.items()},
        tips={ours: tip for ours, at in chosen.items() if (tip := nodes[at].tip) is not None},
    )
    return Motion(name=name, rotvec=retargeted(skeleton, rest))


def _nodes(path: Path, words: Iterator[str]) -> list[Node]:
    """Joints in the order of their channels."""
    nodes: list[Node] = []
    stack: list[int] = []
    ends = 0
    try:
        for word in words:
            if word in ("ROOT", "JOINT"):
                nodes.append(Node(_named(words), stack[-1] if stack else -1, np.zeros(3)))
                stack.append(len(nodes) - 1)
            elif word == "End":
                next(words)
                ends += 1
            elif word == "OFFSET":
                _place(nodes[stack[-1]], np.array([float(next(words)) for _ in "xyz"]), ends > 0)
            elif word == "CHANNELS":
                nodes[stack[-1]].channels = [next(words) for _ in range(int(next(words)))]
            elif word == "}":
                ends = 0 if ends else _pop(stack)
            if len(nodes) > MOST_JOINTS or len(stack) > DEEPEST:
                raise ValueError("too many joints")
    except (StopIteration, ValueError, IndexError):
        nodes = []
    known = all(channel in CHANNELS for node in nodes for channel in node.channels)
    if not nodes or not known or not all(np.isfinite(node.offset).all() for node in nodes):
        raise InputError(f"{path} holds no skeleton that we read: save it as plain BVH")
    return nodes


def _named(words: Iterator[str]) -> str:
    """A name up to its opening brace: some programs write it in several words."""
    found = []
    while (word := next(words)) != "{":
        found.append(word)
    return " ".join(found)


def _place(node: Node, offset: Float[ndarray, "3"], is_end: bool) -> None:
    if is_end:
        node.tip = offset
    else:
        node.offset = offset


def _pop(stack: list[int]) -> int:
    stack.pop()
    return 0


def _frames(path: Path, text: str, width: int) -> tuple[Float[ndarray, "frames channels"], float]:
    """Channels of every frame, and frames a second."""
    match = re.match(r"\s*Frames:\s*(\d{1,9})\s+Frame Time:\s*([\d.eE+-]{1,32})\s", text)
    try:
        assert match is not None
        count, seconds = int(match[1]), float(match[2])
        values = np.array(text[match.end() :].split(), dtype=np.float64)
        found = values.reshape(count, width)
        assert np.isfinite(values).all() and 1e-4 < seconds < 10
    except (AssertionError, ValueError):
        raise InputError(f"{path} holds no motion of {width} channels: it is cut off") from None
    return found, 1 / seconds


def _chosen(path: Path, nodes: list[Node]) -> dict[str, int]:
    """Place of each of our joints among those of the file, as far as it has them."""
    plain = _plain([node.name for node in nodes])
    found: dict[str, int] = {}
    for joint, options in NAMES.items():
        _take(found, joint, options, plain)
    for side, prefixes in SIDES.items():
        for part, options in SIDED_NAMES.items():
            spelled = [p + o for o in options for p in prefixes] + [
                o + p for o in options for p in prefixes
            ]
            _take(found, f"{side}_{part}", spelled, plain)
    missing = [joint for joint in NEEDED if joint not in found]
    if missing:
        raise InputError(f"{path} has no joint that we take for {', '.join(missing)}")
    return found


def _plain(names: list[str]) -> list[str]:
    """Names in small letters, without what all begin with: a character's own name."""
    plain = [re.sub(r"[^a-z0-9]", "", name.lower().split(":")[-1]) for name in names]
    first, last = min(plain), max(plain)
    shared = 0
    while shared < len(first) and first[shared] == last[shared]:
        shared += 1
    return [name[shared:] for name in plain]


def _take(
    found: dict[str, int], joint: str, options: list[str] | tuple[str, ...], plain: list[str]
) -> None:
    for option in options:
        places = [k for k, name in enumerate(plain) if name == option and k not in found.values()]
        if places:
            found[joint] = places[0]
            return


def _world(nodes: list[Node], frames: ndarray) -> list[Rotation]:
    """Global rotations of every joint of the file."""
    found, at = [], 0
    for node in nodes:
        own = Rotation.identity(len(frames))
        for channel in node.channels:
            if channel in AXES:
                turn = Rotation.from_euler(AXES[channel], frames[:, at, None], degrees=True)
                own = own * turn
            at += 1
        found.append(own if node.parent < 0 else found[node.parent] * own)
    return found


def _rest_places(nodes: list[Node]) -> list[ndarray]:
    found: list[ndarray] = []
    for node in nodes:
        found.append(node.offset + (found[node.parent] if node.parent >= 0 else 0))
    return found
