"""Lessons of one person where labels are scarce."""

import copy

import numpy as np
import pytest
import torch

from pchmr.body import load_body
from pchmr.config import FittingOptions, ModelOptions
from pchmr.data.sample import Subset
from pchmr.models import load_model
from pchmr.personalize.rehearsal import source_people
from pchmr.personalize.teaching import Pictures, Teacher


@pytest.mark.parametrize("has_others", [True, False])
def test_where_no_label_is_held_out_the_others_decide(has_others: bool) -> None:
    body = load_body()
    shared, _ = load_model(ModelOptions(), body.hierarchy, seed=0)
    people = source_people(body, shared.image_size, 4)
    pictures = Pictures(
        name="0",
        train=people.test,
        weights=np.ones(len(people.test)),
        validation=Subset(people.test, np.arange(0)),
    )
    teacher = Teacher(
        body=body,
        source=people,
        source_mm=1e6,
        others=people if has_others else None,
        options=FittingOptions(setting="B", num_epochs=1),
        seed=0,
    )
    model, fitted = teacher.teach(copy.deepcopy(shared), pictures)
    assert len(fitted.validation_mm) == (2 if has_others else 0)
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
