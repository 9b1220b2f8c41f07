"""What a run says of the weights that it started from; no logic."""

from typing import NotRequired, TypedDict


class StartedFrom(TypedDict):
    """Where weights come from.

    `kind` is random, shipped, checkpoint or official; `sha256` that of the file, None for random
    weights; `random` names a part that the file did not hold.
    """

    kind: str
    name: str
    sha256: str | None
    file: NotRequired[str]
    random: NotRequired[str]
    backbone_file: NotRequired[str]
    backbone_sha256: NotRequired[str]
