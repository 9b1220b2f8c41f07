"""One user's turn: scores before, learning, scores after, pictures to look at."""

import dataclasses
import time
from pathlib import Path

from pchmr.door import Json
from pchmr.evaluation import Scores, evaluate
from pchmr.models import HMRModel
from pchmr.personalize.consistency import consistency, independent_prior, seen_limbs
from pchmr.personalize.pictures import PICTURES, write_pictures
from pchmr.personalize.scores import constants, named
from pchmr.personalize.teaching import Teacher, labeled
from pchmr.personalize.users import User
from pchmr.progress import say
from pchmr.runs import make_folder


@dataclasses.dataclass(frozen=True)
class Lesson:
    """One user's turn.

    Attributes:
        teacher: How models learn.
        shared: The model of everybody.
        settled: The same after others in the setting: where this user begins.
        source_before: Error of the shared model in the source domain.
        user: Whose turn it is.
    """

    teacher: Teacher
    shared: HMRModel
    settled: HMRModel
    source_before: float
    user: User

    def learn(self, folder: Path) -> tuple[Json, HMRModel | None]:
        """The user's row, and their model: None where labels are too few to learn from.

        With labels but none held out, it is the one that knows the setting, where one is named.

        Args:
            folder: For pictures to look at.
        """
        began, user, options = time.perf_counter(), self.user, self.teacher.options
        pictures = labeled(user, options.use_review)
        found: Json = {"num_usable": len(pictures.train), **user.about}
        model, num_held_out = None, len(user.validation)
        if len(pictures.train) < options.min_labels or not num_held_out:
            if len(pictures.train) >= options.min_labels and self.settled is not self.shared:
                model = self.settled
            stays = "shared model" if model is None else "model of the setting"
            say(
                f"{user.name}: {len(pictures.train)} usable labels, {num_held_out} held out, too "
                f"few: the {stays} stays"
            )
        else:
            model, fitted = self.teacher.teach(self.settled, pictures)
            found |= {
                "validation_mm": list(fitted.validation_mm),
                "best_epoch": fitted.best_epoch,
                "kept_share": fitted.share,
            }
            if len(user.test):
                make_folder(folder)
                pair = (self.shared, model)
                write_pictures(folder / PICTURES, pair, self.teacher.body, user.test)
        after = model or self.shared
        source_after = self.teacher.source.mpjpe_mm(after, self.teacher.body)
        row = {
            **found,
            **named({"before": self._scores(self.shared), "after": self._scores(after)}),
            **self._settled_row(),
            **constants(self.teacher.body, user),
            **self._consistency(after),
            "forgetting": source_after / self.source_before - 1,
            "seconds": time.perf_counter() - began,
        }
        return row, model

    def _settled_row(self) -> Json:
        """Scores of the model that knows the setting, and no picture of this user."""
        if self.settled is self.shared:
            return {}
        return named({"settled": self._scores(self.settled)})

    def _consistency(self, after: HMRModel) -> Json:
        """What can be said of own pictures without truth, of either model."""
        user, body = self.user, self.teacher.body
        if user.close is None or not len(user.close):
            return {}
        prior = independent_prior(user.labeled_with)
        seen = None if prior is None else seen_limbs(prior, user.close)
        told = {
            name: consistency(model, body, user.close, model.image_size, user.times, seen)
            for name, model in (("before", self.shared), ("after", after))
        }
        return {"consistency": {"against": prior and prior.provenance.name, **told}}

    def _scores(self, model: HMRModel) -> dict[str, Scores]:
        """Against labels where there are any, and against the truth where it is known."""
        body, found = self.teacher.body, {}
        if len(self.user.test):
            found["labels"] = evaluate(model, body, self.user.test)
        if "test" in self.user.truth:
            found["truth"] = evaluate(model, body, self.user.truth["test"])
        return found
