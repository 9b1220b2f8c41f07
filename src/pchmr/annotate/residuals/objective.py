"""All terms over one body, one prior and one batch of evidence."""

from dataclasses import dataclass, replace

from torch import Tensor

from pchmr.annotate.kinematics import Skeleton, State
from pchmr.annotate.prior import PosePrior
from pchmr.annotate.residuals.frame import Frame
from pchmr.annotate.residuals.points import observed_points
from pchmr.annotate.residuals.seen import Evidence
from pchmr.annotate.residuals.term import Term, TermFunction, Weights
from pchmr.annotate.rig import Rig
from pchmr.annotate.surface import Surface


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a fit minimizes.

    Attributes:
        skeleton: Of the body.
        rig: Keypoints, in the order of the evidence.
        prior: Of local rotations, and joint limits.
        surface: Vertices that meet dense depth; None leaves that term out.
        evidence: What was seen.
        terms: Functions whose terms are summed; their order means nothing.
    """

    skeleton: Skeleton
    rig: Rig
    prior: PosePrior
    surface: Surface | None
    evidence: Evidence
    terms: tuple[TermFunction, ...]

    def __len__(self) -> int:
        return len(self.evidence)

    def take(self, rows: Tensor) -> "Objective":
        """The same objective for some frames; terms must hold nothing of single frames."""
        return replace(self, evidence=self.evidence.take(rows))

    def frame(self, state: State, *, matches: Tensor | None = None, linear: bool = False) -> Frame:
        """The frames at a state; `linear` where derivatives will be asked for."""
        return Frame(
            skeleton=self.skeleton,
            rig=self.rig,
            prior=self.prior,
            surface=self.surface,
            state=state,
            matches=matches,
            is_linear=linear,
        )

    def terms_at(self, frame: Frame, weights: Weights) -> list[Term]:
        """The terms that have something to say of frames at a state."""
        found = (term(frame, self.evidence, weights) for term in self.terms)
        return [term for term in found if term is not None]

    def associate(self, state: State, weights: Weights) -> Tensor | None:
        """The surface vertex nearest to each dense point, or None where they play no part."""
        if not weights.dense or self.surface is None or self.evidence.rays is None:
            return None
        chain = self.frame(state).chain
        observed = observed_points(state, self.evidence)[0]
        sides = self.evidence.rays_on_all_sides
        return self.surface.nearest(chain, state.betas, observed, on_all_sides=sides)
