"""Templates of joint angles, one function an activity; none of them knows the ground.

Hip angles are counted from the vertical; side 0 leads. `activities.py` says how each meets the
ground.
"""

import numpy as np

from pchmr.data.synthetic.poses import Angles, Degrees, Draw


def _arm(
    a: Angles,
    side: int,
    down: np.ndarray | Degrees,
    forward: np.ndarray | Degrees,
    across: np.ndarray | Degrees,
    elbow: np.ndarray | Degrees,
    twist: np.ndarray | Degrees = 0.0,
) -> None:
    a["arm_down"][:, side], a["arm_forward"][:, side] = down, forward
    a["arm_across"][:, side], a["elbow_flexion"][:, side] = across, elbow
    a["arm_twist"][:, side] = twist


def _legs(a: Angles, hip: np.ndarray, knee: np.ndarray) -> None:
    a["hip_flexion"][:], a["knee_flexion"][:] = hip[:, None], knee[:, None]


def stand(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """Upright; sometimes a hand on the hip or arms crossed in front."""
    a["knee_flexion"][:] = 3
    hip, crossed = draw.chance(0.25), draw.chance(0.2)
    for side in (0, 1):
        _arm(a, side, 72, draw.uniform(-10, 15), 0, draw.uniform(5, 35))
    bent = np.stack([hip, hip & draw.chance(0.5)], axis=-1)
    for name, value in {"arm_down": 50, "arm_forward": -20, "elbow_flexion": 95}.items():
        a[name][bent] = value
    for name, value in {"arm_forward": 30, "arm_across": 25, "elbow_flexion": 105}.items():
        a[name][crossed] = value


def walk(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """Opposite arms and legs swing; the knee of the leg in the air bends."""
    swing, arm = draw.uniform(18, 30), draw.uniform(12, 32)
    sin, cos = np.sin(phase), np.cos(phase)
    for side, sign in ((0, 1.0), (1, -1.0)):
        a["hip_flexion"][:, side] = sign * swing * sin + 4
        a["knee_flexion"][:, side] = 6 + 45 * np.maximum(0, sign * cos) ** 1.5
        _arm(a, side, 74, -sign * arm * sin, 0, 18 + 8 * (1 - sign * sin))
    a["trunk_flexion"] += 4
    a["trunk_turn"] += -6 * sin
    a["pelvis_turn"] += 4 * sin


def run(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """Wide strides, elbows bent, trunk forward."""
    swing, arm = draw.uniform(32, 50), draw.uniform(25, 50)
    sin, cos = np.sin(phase), np.cos(phase)
    for side, sign in ((0, 1.0), (1, -1.0)):
        a["hip_flexion"][:, side] = 12 + sign * swing * sin
        a["knee_flexion"][:, side] = 48 + 38 * sign * cos
        _arm(a, side, 68, -sign * arm * sin, 8, 85 + 10 * sign * sin)
    a["trunk_flexion"] += 14
    a["trunk_turn"] += -10 * sin


def sit(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """On a seat, hands on the thighs, in the lap or lifted."""
    bend = draw.uniform(78, 100)
    _legs(a, bend - 4, bend + draw.uniform(-18, 22))
    a["hip_outward"] += draw.uniform(0, 16)[:, None]
    for side in (0, 1):
        _arm(a, side, 66, draw.uniform(10, 45), 15, draw.uniform(30, 85))
    a["trunk_flexion"] += draw.uniform(-8, 22)


def squat(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """Knees deep, feet flat as far as ankles allow."""
    depth = draw.uniform(50, 118)
    _legs(a, 0.92 * depth, depth)
    a["hip_outward"] += 15
    a["hip_axial"] += 10
    for side in (0, 1):
        _arm(a, side, 60, draw.uniform(20, 90), 20, draw.uniform(5, 60))
    a["trunk_flexion"] += draw.uniform(12, 38)


def reach(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """One arm to a shelf, high or low, the other relaxed."""
    high = draw.uniform(-75, 25)
    _legs(a, draw.uniform(-4, 10), np.full(len(draw), 8.0))
    _arm(a, 0, high, draw.uniform(0, 35), draw.uniform(0, 60), draw.uniform(0, 35))
    a["trunk_side"] -= np.clip(-high, 0, 60) * 0.15
    a["trunk_turn"] += draw.uniform(-15, 15)


def wave(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """One forearm up, swinging."""
    a["knee_flexion"][:] = 5
    swing = draw.uniform(10, 25) * np.sin(4 * phase)
    elbow = draw.uniform(60, 110) + swing
    _arm(a, 0, draw.uniform(-30, 35), draw.uniform(0, 20), draw.uniform(0, 20), elbow, -80)


def phone(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """One or two hands hold something before the chest; the head is down."""
    a["knee_flexion"][:] = 3
    two = draw.chance(0.4)
    lift, elbow = draw.uniform(25, 50), draw.uniform(95, 130)
    _arm(a, 0, 72, lift, 20, elbow)
    for name, value in {"arm_forward": lift, "arm_across": 20.0, "elbow_flexion": elbow}.items():
        a[name][:, 1] = np.where(two, value, a[name][:, 1])
    a["head_flexion"] += draw.uniform(8, 28)


def box(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """A boxer's stance, one fist out in turn."""
    front = draw.uniform(10, 30)
    a["hip_flexion"][:, 0], a["hip_flexion"][:, 1] = front, -draw.uniform(0, 22)
    a["knee_flexion"][:, 0], a["knee_flexion"][:, 1] = 24, 25
    punch = 0.5 + 0.5 * np.sin(3 * phase)
    for side, out in ((0, punch), (1, 1 - punch)):
        _arm(a, side, 68 - 18 * out, 30 + 50 * out, 25, 115 - 100 * out)
    a["trunk_turn"] += 20 * (1 - 2 * punch)
    a["trunk_flexion"] += 8
    a["finger_curl"][:] += 40


def bend(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """Hands towards the floor."""
    angle = draw.uniform(30, 88)
    _legs(a, 0.1 * angle, draw.uniform(0, 30))
    for side in (0, 1):
        _arm(a, side, 72, draw.uniform(30, 90), draw.uniform(-5, 25), draw.uniform(2, 35))
    a["trunk_flexion"] += angle


def lunge(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """A long step: one knee bent in front, the other leg behind on its toes."""
    depth = draw.uniform(40, 85)
    a["hip_flexion"][:, 0], a["knee_flexion"][:, 0] = depth, depth + draw.uniform(-6, 10)
    a["hip_flexion"][:, 1], a["knee_flexion"][:, 1] = -20, 12 + 0.4 * depth
    for side in (0, 1):
        _arm(a, side, draw.uniform(10, 75), draw.uniform(0, 40), 0, draw.uniform(10, 60))
    a["trunk_flexion"] += draw.uniform(-4, 14)


def vr(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """Two controllers in the hands, knees soft, looking about."""
    knee = draw.uniform(0, 45)
    _legs(a, 0.6 * knee, knee)
    a["hip_outward"] += 8
    for side in (0, 1):
        arm = (draw.uniform(30, 75), draw.uniform(20, 80), draw.uniform(0, 50))
        _arm(a, side, *arm, draw.uniform(30, 110))
    a["trunk_flexion"] += draw.uniform(0, 20)
    a["head_turn"] += draw.normal(0, 20)
    a["neck_turn"] += draw.normal(0, 10)
    a["head_flexion"] += draw.normal(0, 12)
    a["finger_curl"][:] += 30


def kneel(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """On both knees, upright to half seated on the heels."""
    thigh = draw.uniform(-8, 42)
    _legs(a, thigh, 98 + thigh)
    a["ankle_up"][:] = -42
    a["trunk_flexion"] += draw.uniform(-5, 45)
    for side in (0, 1):
        _arm(a, side, draw.uniform(40, 75), draw.uniform(0, 80), 10, draw.uniform(5, 80))


def half_kneel(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """One knee on the ground, the other foot flat in front."""
    thigh = draw.uniform(-8, 10)
    a["hip_flexion"][:, 1], a["knee_flexion"][:, 1] = thigh, 98 + thigh
    a["ankle_up"][:, 1] = -42
    a["hip_flexion"][:, 0] = draw.uniform(68, 90)
    a["knee_flexion"][:, 0] = a["hip_flexion"][:, 0] + draw.uniform(-10, 10)
    a["trunk_flexion"] += draw.uniform(-5, 40)
    for side in (0, 1):
        _arm(a, side, 66, draw.uniform(0, 70), 10, draw.uniform(5, 80))


def floor_sit(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """On the floor, legs long or drawn up, leaning back on the hands or forward."""
    a["hip_flexion"][:] = np.stack([draw.uniform(75, 115) for _ in range(2)], axis=-1)
    a["knee_flexion"][:] = np.stack([draw.uniform(5, 88) for _ in range(2)], axis=-1)
    a["hip_outward"] += draw.uniform(0, 18)[:, None]
    lean = draw.uniform(-30, 30)
    a["trunk_flexion"] += lean
    for side in (0, 1):
        _arm(a, side, 62, np.where(lean < -8, -40.0, 45.0 + lean), 5, draw.uniform(5, 50))


def stretch(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """Both arms overhead or wide, the trunk to a side."""
    a["hip_outward"] += draw.uniform(0, 18)[:, None]
    up = draw.uniform(-78, -10)
    for side in (0, 1):
        _arm(a, side, up + draw.uniform(-8, 8), draw.uniform(-15, 15), 0, draw.uniform(0, 70), -70)
    a["trunk_side"] += draw.uniform(-32, 32)
    a["pelvis_side"] += draw.uniform(-8, 8)
    a["trunk_flexion"] += draw.uniform(-18, 8)


def dance(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """Arms wide and high in turn, one leg lifted or out to the side."""
    sin = np.sin(phase)
    lift = draw.uniform(0, 60) * (0.5 + 0.5 * sin)
    a["hip_flexion"][:, 0], a["knee_flexion"][:, 0] = lift, 10 + draw.uniform(0.4, 1.4) * lift
    a["hip_outward"][:, 0] += draw.uniform(0, 35)
    a["hip_axial"][:, 0] += draw.uniform(0, 30)
    a["knee_flexion"][:, 1] = 8
    for side, sign in ((0, 1.0), (1, -1.0)):
        height = draw.uniform(-60, 40) + 20 * sign * sin
        _arm(a, side, height, draw.uniform(-10, 40), 0, draw.uniform(5, 80), draw.uniform(-70, 20))
    a["trunk_side"] += 15 * sin
    a["trunk_turn"] += draw.uniform(-25, 25)


def throw(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """One arm from behind the head to the front, the trunk turning with it."""
    go = 0.5 - 0.5 * np.cos(phase)
    a["hip_flexion"][:, 1] = draw.uniform(12, 35)
    a["hip_flexion"][:, 0] = -draw.uniform(5, 22)
    a["knee_flexion"][:, 0], a["knee_flexion"][:, 1] = 18, 15
    down, forward = -35 + 45 * go, -20 + 60 * go
    _arm(a, 0, down, forward, 45 * go, 110 - 85 * go, -80 + 60 * go)
    _arm(a, 1, 20 + 50 * go, draw.uniform(0, 40), 30 - 20 * go, draw.uniform(10, 50))
    a["trunk_turn"] += 35 - 65 * go
    a["trunk_flexion"] += -10 + 30 * go


def climb(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """One foot on a step."""
    a["hip_flexion"][:, 0] = draw.uniform(50, 85)
    a["knee_flexion"][:, 0] = a["hip_flexion"][:, 0] + draw.uniform(0, 15)
    a["hip_flexion"][:, 1], a["knee_flexion"][:, 1] = -draw.uniform(0, 12), 6
    for side, sign in ((0, -1.0), (1, 1.0)):
        _arm(a, side, 70, sign * draw.uniform(0, 30), 0, draw.uniform(15, 80))
    a["trunk_flexion"] += draw.uniform(4, 28)


def kick(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """One leg swings from behind to high in front; the arms balance."""
    go = 0.5 - 0.5 * np.cos(phase)
    high = draw.uniform(40, 85)
    a["hip_flexion"][:, 0] = -22 + (22 + high) * go
    a["knee_flexion"][:, 0] = 75 - 65 * go
    a["hip_flexion"][:, 1], a["knee_flexion"][:, 1] = 5, 12
    for side, sign in ((0, -1.0), (1, 1.0)):
        _arm(a, side, draw.uniform(10, 55), sign * 40 * (2 * go - 1), 0, draw.uniform(10, 50))
    a["trunk_flexion"] += 15 - 30 * go
    a["trunk_turn"] += 20 * (1 - 2 * go)


def swing(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """Both hands together on a bat, from one shoulder across the body."""
    go = np.sin(phase)
    a["hip_outward"] += 14
    _legs(a, draw.uniform(8, 25), draw.uniform(12, 35))
    a["trunk_turn"] += 45 * go
    a["pelvis_turn"] += 20 * go
    a["trunk_flexion"] += draw.uniform(8, 30)
    lift = draw.uniform(40, 95)
    for side, sign in ((0, 1.0), (1, -1.0)):
        _arm(a, side, 60, lift, 32 - 18 * sign * go, 25 + 35 * np.maximum(0, sign * go))
    a["finger_curl"][:] += 40


def arms_crossed(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """Forearms over each other before the chest or the belly, or hands held low."""
    a["knee_flexion"][:] = 4
    low = draw.chance(0.35)
    for side in (0, 1):
        elbow = np.where(low, draw.uniform(25, 60), draw.uniform(85, 125))
        forward = np.where(low, draw.uniform(10, 30), draw.uniform(15, 45))
        _arm(a, side, draw.uniform(55, 75), forward, draw.uniform(25, 60), elbow)
    a["hip_axial"] += draw.uniform(-8, 12)[:, None]
    a["trunk_flexion"] += draw.uniform(-4, 14)


def hands_to_head(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """One or both hands at the face, the hair or behind the neck."""
    a["knee_flexion"][:] = 4
    both = draw.chance(0.6)
    for side in (0, 1):
        down, forward = draw.uniform(-45, 40), draw.uniform(10, 75)
        _arm(a, side, down, forward, draw.uniform(5, 45), draw.uniform(105, 142), -60)
    for name, rest in {"arm_down": 72.0, "arm_forward": 5.0, "elbow_flexion": 20.0}.items():
        a[name][:, 1] = np.where(both, a[name][:, 1], rest)
    a["head_flexion"] += draw.uniform(-10, 20)
    a["trunk_flexion"] += draw.uniform(-6, 16)


def cross_legged(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """On the floor with shins crossed before the body."""
    a["hip_flexion"][:] = np.stack([draw.uniform(85, 110) for _ in range(2)], axis=-1)
    a["hip_outward"] += draw.uniform(25, 45)[:, None]
    a["hip_axial"] += draw.uniform(18, 38)[:, None]
    a["knee_flexion"][:] = np.stack([draw.uniform(100, 135) for _ in range(2)], axis=-1)
    a["trunk_flexion"] += draw.uniform(-5, 35)
    for side in (0, 1):
        _arm(a, side, 62, draw.uniform(0, 60), draw.uniform(0, 35), draw.uniform(20, 90))


def turn_about(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """A step while trunk and head look to a side."""
    way = np.sin(phase)
    a["pelvis_turn"] += 28 * way
    a["trunk_turn"] += 40 * way
    a["neck_turn"] += 20 * way
    a["head_turn"] += 25 * way
    step = draw.uniform(5, 30)
    for side, sign in ((0, 1.0), (1, -1.0)):
        a["hip_flexion"][:, side] = sign * step * way
        a["knee_flexion"][:, side] = 8 + 25 * np.maximum(0, sign * way)
        _arm(a, side, draw.uniform(45, 76), 25 * sign * way, draw.uniform(0, 30), 25)


def anything(a: Angles, draw: Draw, phase: np.ndarray) -> None:
    """Arms, legs and trunk apart from each other, wide over what joints allow."""
    for side in (0, 1):
        down, forward = draw.uniform(-75, 80), draw.uniform(-45, 130)
        across, elbow, twist = draw.uniform(-25, 65), draw.uniform(0, 135), draw.uniform(-85, 60)
        _arm(a, side, down, forward, across, elbow, twist)
        lift = draw.uniform(-25, 85) * draw.uniform(0, 1)
        a["hip_flexion"][:, side] = lift
        a["knee_flexion"][:, side] = np.clip(draw.uniform(0, 1.4) * np.abs(lift), 3, 120)
        a["hip_outward"][:, side] += draw.uniform(-12, 35)
        a["hip_axial"][:, side] += draw.uniform(-20, 30)
    a["trunk_flexion"] += draw.uniform(-20, 50)
    a["trunk_side"] += draw.uniform(-25, 25)
    a["trunk_turn"] += draw.uniform(-35, 35)
