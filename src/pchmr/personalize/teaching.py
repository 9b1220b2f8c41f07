"""How a model is taught: first what the setting does to pictures, then one person's own labels.

`Teacher` holds what all users share. The setting is taught once, from rendered others alone, and
every user begins there; nothing of one user reaches another.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from pchmr.body import BodyModel
from pchmr.config import FittingOptions
from pchmr.data.sample import PeopleDataset, Subset
from pchmr.models import HMRModel
from pchmr.personalize.fitting import Fitted, held_back, personalize
from pchmr.personalize.lessons import Helpers, Lessons
from pchmr.personalize.rehearsal import Rendered
from pchmr.personalize.users import User, usable, weights
from pchmr.seeds import derive_seed

FEWEST_OTHERS = 16


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What a person's model learns from, and what ends it.

    Attributes:
        name: Of the person.
        train: Pictures with labels, all of which may teach.
        weights: How much each counts.
        validation: Held-out pictures with labels of the same kind.
    """

    name: str
    train: PeopleDataset
    weights: np.ndarray
    validation: PeopleDataset


def labeled(user: User, use_review: bool) -> Pictures:
    """A user's pictures with the annotator's labels."""
    rows = usable(user.train, use_review)
    return Pictures(
        name=user.name,
        train=Subset(user.train, rows),
        weights=weights(user.train)[rows],
        validation=user.validation,
    )


def known(user: User) -> Pictures:
    """The same pictures with the truth in place of labels: the upper bound."""
    train = user.truth["train"]
    return Pictures(
        name=user.name,
        train=train,
        weights=np.ones(len(train)),
        validation=user.truth["validation"],
    )


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """What every lesson shares.

    Attributes:
        body: Of the labels.
        source: People of the source domain.
        source_mm: Error of the shared model on those of them who are watched.
        others: People in the users' setting, where it is known.
        options: How models learn.
        seed: Of everything drawn.
    """

    body: BodyModel
    source: Rendered
    source_mm: float
    others: Rendered | None
    options: FittingOptions
    seed: int

    @classmethod
    def of(
        cls,
        shared: HMRModel,
        body: BodyModel,
        source: Rendered,
        others: Rendered | None,
        options: FittingOptions,
        seed: int,
    ) -> "Teacher":
        """A teacher who knows what the shared model's error was before anything is learned."""
        return cls(
            body=body,
            source=source,
            source_mm=source.watched_mm(shared, body),
            others=others,
            options=options,
            seed=seed,
        )

    def settle(self, shared: HMRModel) -> HMRModel:
        """The shared model after the others in the setting; itself where there are none."""
        options = self.options
        if self.others is None or not options.setting_epochs:
            return shared
        lessons = Lessons(
            people=self.others.train,
            weights=np.ones(len(self.others.train)),
            helpers=(Helpers(self.source.train, options.rehearsal_share),),
            seed=derive_seed(self.seed, "setting"),
        )
        model = copy.deepcopy(shared)
        every = replace(options, num_epochs=options.setting_epochs, trainable="all", pull=0.0)
        personalize(model, self.body, lessons, (), every, seed=lessons.seed)
        self.hold_back(shared, model)
        return model

    def hold_back(self, start: HMRModel, model: HMRModel) -> float:
        """Takes a model back until no more is forgotten than is allowed; the share that is left."""
        limit = (1 + self.options.most_forgotten) * self.source_mm

        def error(tried: nn.Module) -> float:
            return self.source.watched_mm(tried, self.body)

        return held_back(start, model, error, limit)

    def lessons(self, pictures: Pictures) -> Lessons:
        """One person's pictures, and rendered people beside them."""
        options = self.options
        helpers = [Helpers(self.source.train, options.rehearsal_share)]
        if self.others is not None:
            helpers.append(Helpers(self.others.train, options.setting_share))
        return Lessons(
            people=pictures.train,
            weights=pictures.weights,
            helpers=helpers,
            seed=derive_seed(self.seed, "user", pictures.name),
        )

    def teach(self, start: HMRModel, pictures: Pictures) -> tuple[HMRModel, Fitted]:
        """A copy of a model that has learned from one person's pictures.

        It ends where held-out labels and as many others in the setting, whose labels are exact, are
        met best: labels alone would be met best by the network that helped to make them. Where no
        label is held out, the others decide alone.
        """
        model, lessons = copy.deepcopy(start), self.lessons(pictures)
        held_out = [pictures.validation] if len(pictures.validation) else []
        seed = lessons.seed
        if self.others is not None:
            held_out.append(few(self.others.test, len(pictures.validation)))
        fitted = personalize(model, self.body, lessons, held_out, self.options, seed=seed)
        share = self.hold_back(start, model) if fitted.best_epoch else 1.0
        return model, replace(fitted, share=share)


def few(people: PeopleDataset, count: int) -> PeopleDataset:
    """The first people of a set, but at least sixteen."""
    return Subset(people, np.arange(min(len(people), max(count, FEWEST_OTHERS))))
