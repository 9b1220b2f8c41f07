"""The two ways in which a round of secure aggregation ends early.

A client refuses (`Refusal`), or the server gives the round up (`RoundAborted`). What travels is the
reason's name and nothing else: no text, no values.
"""

from enum import StrEnum

from pchmr.config import UserError


class Reason(StrEnum):
    """Why; the value is the code that leaves a client."""

    MALFORMED = "malformed"
    WRONG_STAGE = "wrong_stage"
    WRONG_ROUND = "wrong_round"
    REPLAY = "replay"
    FOREIGN_ROSTER = "foreign_roster"
    UNKNOWN_SIGNER = "unknown_signer"
    DOUBLED = "doubled"
    BAD_SIGNATURE = "bad_signature"
    BAD_SHARE = "bad_share"
    SMALL_COHORT = "small_cohort"
    LARGE_COHORT = "large_cohort"
    LOW_THRESHOLD = "low_threshold"
    WRONG_CONFIG = "wrong_config"
    OTHER_MODEL = "other_model"
    MODEL_AGAIN = "model_again"
    COHORT_OVERLAP = "cohort_overlap"
    FALSE_SURVIVORS = "false_survivors"
    TOO_FEW = "too_few"
    NOT_FINITE = "not_finite"
    WRONG_SIZE = "wrong_size"


class Refusal(UserError):
    """One side does not go on with a message; `reason` is what may be told of it."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"secure aggregation, {reason}: {message}")
        self.reason = reason


class RoundAborted(UserError):
    """Too few clients are left, or their answers do not fit: the model stays as it is."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(
            f"secure aggregation gave the round up at stage {stage}: {message}; the model stays, "
            "draw a new cohort"
        )
        self.stage = stage


def refuse_unless(condition: bool, reason: Reason, message: str) -> None:
    """Raises `Refusal` unless the condition holds."""
    if not condition:
        raise Refusal(reason, message)
