"""What the server of a federated run could learn: attacks on its view, with chance and ceiling.

A run's recipe is replayed from its start weights with rendered people whose shapes and pictures are
known (`replay.py`, `people.py`). Plain view: every update. Secure view: the sum over a cohort, who
took part, and the released model. Attacks: shape (`shape.py`, `lineup.py`), membership
(`membership.py`), reconstruction (`inversion.py`), many rounds (`rounds.py`), one crafted model
(`crafted.py`). The released model is protected by neither view.
"""

from pchmr.privacy.audit.run import run

__all__ = ["run"]
