"""Scores against meshes of each person's own gender, beside those that a table compares.

3DPW's truth in the papers comes from the neutral body, although its labels carry a gender.
"""

from pathlib import Path

from pchmr.body.files import BodyFileError, with_genders
from pchmr.data.sets.folder import is_gendered
from pchmr.evaluation import Scores, evaluate
from pchmr.evaluation.protocols import gendered
from pchmr.experiment.scene import Scene
from pchmr.progress import say


def gendered_scores(scene: Scene, files: Path | None) -> Scores | None:
    """Scores of a scene's model; None where labels or body files name no gender.

    Where the truth is gendered as imported, nothing is left to say.

    Args:
        scene: Model and held-out people.
        files: Folder of body files.
    """
    people = scene.test_set
    if files is None or not files.is_dir() or "gender" not in people.columns:
        return None
    if is_gendered(getattr(people, "about", {})):
        return None
    try:
        body = with_genders(scene.body, files)
    except BodyFileError as error:
        say(f"scores against gendered truth are left out: {error}")
        return None
    return evaluate(scene.model, body, gendered(people), bf16=scene.bf16)
