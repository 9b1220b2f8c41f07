"""The floor of a conversion: nothing between bodies that are one, millimetres between others."""

import numpy as np

from pchmr.body import BodyModel
from pchmr.data.sets.conversion import conversion_floor
from pchmr.data.sets.folder import ImportedPeople
from pchmr.data.sets.importing import import_set
from pchmr.data.sets.placing import Bodies


def test_floor_between_bodies(tiny_sets, tiny_arrays, tiny_body, make_job, tmp_path) -> None:
    import_set(make_job("truth", tiny_sets["truth"], tmp_path / "set", Bodies(tiny_body, {})))
    people = ImportedPeople(tmp_path / "set", None)
    same = conversion_floor(people, tiny_body, tiny_body)
    assert same is not None and same.num_people == 6
    assert same.there_mpjpe_mm < 2 and same.back_mpjpe_mm < 2
    legs = tiny_arrays["v_template"].copy()
    legs[legs[:, 1] < -0.3, 1] *= 1.3
    other = BodyModel(tiny_arrays | {"v_template": legs.astype(np.float32)}, tiny_body.hierarchy)
    found = conversion_floor(people, tiny_body, other)
    assert found is not None
    assert found.there_mpjpe_mm > 2 * same.there_mpjpe_mm
    assert all(np.isfinite(value) for value in vars(found).values())
