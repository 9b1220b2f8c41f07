"""What people do: one template of joint angles per activity, and how each meets the ground.

Templates need no motion data and so no licence. Hip angles of a template are counted from the
vertical; `finish` turns them into angles against the tilted pelvis. Side 0 leads; half of all clips
are mirrored later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pchmr.data.synthetic import templates
from pchmr.data.synthetic.poses import Angles, Degrees, Draw, add_noise, neutral

Template = Callable[[Angles, Draw, np.ndarray], None]
Support = Literal["both", "lower", "leading", "kneeling", "half_kneeling", "floor"]


@dataclass(frozen=True, kw_only=True)
class Activity:
    """A template and its contact.

    Attributes:
        template: Fills angles from draws and the phase of the cycle in radians.
        support: What carries the body: both feet flat, the lower foot, the leading foot flat and
            the other on its toes, both knees, one knee and one foot, or the seat on the floor.
        balance: Share of the way by which the center of mass is moved over the feet.
        rate: Cycles per second, low and high; slow for held postures.
        prop: A box that the contact asks for.
        pelvis_share: Share of forward flexion that the pelvis takes.
        slump: Degrees by which the pelvis rolls back and the trunk curls to make up for it.
    """

    template: Template
    support: Support = "both"
    balance: float = 0.8
    rate: tuple[float, float] = (0.2, 0.5)
    prop: Literal["none", "seat", "step"] = "none"
    pelvis_share: float = 0.35
    slump: Degrees = 0.0


ACTIVITIES: dict[str, Activity] = {
    "stand": Activity(template=templates.stand),
    "walk": Activity(template=templates.walk, support="lower", balance=0.0, rate=(0.7, 1.0)),
    "run": Activity(template=templates.run, support="lower", balance=0.0, rate=(1.1, 1.5)),
    "sit": Activity(template=templates.sit, balance=0.0, prop="seat", slump=6.0),
    "squat": Activity(template=templates.squat),
    "reach": Activity(template=templates.reach),
    "wave": Activity(template=templates.wave),
    "phone": Activity(template=templates.phone),
    "box": Activity(template=templates.box, balance=0.5, rate=(0.3, 0.6)),
    "bend": Activity(template=templates.bend, pelvis_share=0.5),
    "lunge": Activity(template=templates.lunge, support="leading", balance=0.0),
    "vr": Activity(template=templates.vr),
    "kneel": Activity(template=templates.kneel, support="kneeling", balance=0.0),
    "half_kneel": Activity(template=templates.half_kneel, support="half_kneeling", balance=0.0),
    "floor_sit": Activity(template=templates.floor_sit, support="floor", balance=0.0, slump=24.0),
    "stretch": Activity(template=templates.stretch),
    "dance": Activity(template=templates.dance, support="lower", balance=0.7, rate=(0.4, 0.9)),
    "throw": Activity(template=templates.throw, balance=0.4, rate=(0.3, 0.7)),
    "climb": Activity(template=templates.climb, balance=0.3, prop="step"),
    "kick": Activity(template=templates.kick, support="lower", balance=0.7, rate=(0.3, 0.7)),
    "swing": Activity(template=templates.swing, balance=0.6, rate=(0.3, 0.6)),
    "arms_crossed": Activity(template=templates.arms_crossed),
    "hands_to_head": Activity(template=templates.hands_to_head),
    "cross_legged": Activity(
        template=templates.cross_legged, support="floor", balance=0.0, slump=20.0
    ),
    "turn_about": Activity(template=templates.turn_about, support="lower", balance=0.5),
    "anything": Activity(template=templates.anything, support="lower", balance=0.6),
}
"""Activities by name; a domain lists the ones it shows."""


def finish(name: str, draw: Draw, phase: np.ndarray, noise_scale: float) -> Angles:
    """Angles of an activity before contact: template, noise, pelvis tilt, collar bones."""
    activity, angles = ACTIVITIES[name], neutral(len(draw))
    activity.template(angles, draw, phase)
    add_noise(angles, draw, noise_scale)
    flexion, share = angles["trunk_flexion"], activity.pelvis_share
    angles["pelvis_flexion"] = share * flexion - activity.slump
    angles["trunk_flexion"] = (1 - share) * flexion + activity.slump
    angles["hip_flexion"] += angles["pelvis_flexion"][:, None]
    raised = np.minimum(angles["arm_down"], 72 - angles["arm_forward"] * 0.6)
    angles["collar_up"] = 0.14 * np.clip(72 - raised, 0, 150)
    angles["knee_flexion"] = np.abs(angles["knee_flexion"])
    if activity.support == "kneeling":
        for part in ("hip_flexion", "hip_outward", "hip_axial"):
            angles[part] = angles[part].mean(axis=1, keepdims=True).repeat(2, axis=1)
        angles["pelvis_side"] = 0 * angles["pelvis_side"]
    return angles
