import numpy as np
import pytest
from scipy.sparse import csr_matrix

from pchmr.body import HierarchyError, MeshHierarchy, gather_table
from pchmr.body.hierarchy import face_adjacency


def parts() -> dict:
    return {
        "num_vertices": (6, 3, 2),
        "upsample": [
            csr_matrix(np.eye(3).repeat(2, axis=0)),
            csr_matrix([[1.0, 0.0], [0.0, 1.0], [0.4, 0.6]]),
        ],
        "adjacency": np.ones((2, 2), dtype=bool),
    }


def test_kept_rows_are_derived_from_the_weights() -> None:
    hierarchy = MeshHierarchy(**parts())
    assert [rows.tolist() for rows in hierarchy.kept] == [[0, 2, 4], [0, 1]]


def test_given_rows_stay() -> None:
    rows = [np.array([1, 3, 5]), np.array([0, 2])]
    hierarchy = MeshHierarchy(**parts(), downsample=rows)
    assert [found.tolist() for found in hierarchy.kept] == [[1, 3, 5], [0, 2]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_vertices": (6, 6, 2)}, "strictly decreasing"),
        ({"num_vertices": (6,)}, "at least two levels"),
        ({"num_vertices": (6, 3)}, "upsample holds 2 matrices, 2 levels need 1"),
        ({"num_vertices": (7, 3, 2)}, r"upsample\[0\] has shape \(6, 3\), expected \(7, 3\)"),
        ({"adjacency": np.ones((3, 3), dtype=bool)}, "adjacency has shape"),
        ({"adjacency": np.array([[True, True], [False, True]])}, "symmetric"),
        ({"adjacency": np.array([[True, True], [True, False]])}, "every vertex itself"),
        ({"faces": [np.zeros((1, 3), dtype=int)]}, "faces holds 1 levels, expected 3"),
        ({"faces": [np.full((1, 3), k) for k in (6, 0, 0)]}, r"faces\[0\] points outside its 6"),
        ({"faces": [np.zeros((1, 4), dtype=int)] * 3}, r"expected \(F, 3\)"),
        ({"downsample": [np.array([0, 1, 2])]}, "downsample holds 1 levels, expected 2"),
        ({"downsample": [np.array([0, 1]), np.array([0, 1])]}, r"downsample\[0\] has shape"),
        ({"downsample": [np.array([0, 1, 9]), np.array([0, 1])]}, "points outside its 6"),
    ],
)
def test_contradictions_are_one_line(change: dict, message: str) -> None:
    with pytest.raises(HierarchyError, match=message) as caught:
        MeshHierarchy(**{**parts(), **change})
    assert "\n" not in str(caught.value)


def test_non_finite_weights_and_unused_columns_are_refused() -> None:
    broken = parts()
    broken["upsample"][1] = csr_matrix([[1.0, 0.0], [np.nan, 1.0], [0.5, 0.5]])
    with pytest.raises(HierarchyError, match="non-finite"):
        MeshHierarchy(**broken)
    broken["upsample"][1] = csr_matrix([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    with pytest.raises(HierarchyError, match="carries no fine vertex"):
        MeshHierarchy(**broken)


def test_content_hash_follows_every_part() -> None:
    plain = MeshHierarchy(**parts())
    assert plain.content_hash == MeshHierarchy(**parts()).content_hash
    changes = [
        {"downsample": [np.array([1, 3, 5]), np.array([0, 2])]},
        {"adjacency": np.eye(2, dtype=bool)},
        {"faces": [np.array([[0, 1, 2]]), np.array([[0, 1, 2]]), np.zeros((0, 3), dtype=int)]},
    ]
    hashes = {MeshHierarchy(**{**parts(), **change}).content_hash for change in changes}
    assert len(hashes | {plain.content_hash}) == 4


def test_gather_table_equals_the_product() -> None:
    generator = np.random.default_rng(0)
    dense = generator.standard_normal((7, 5)) * (generator.random((7, 5)) < 0.4)
    dense[3] = 0
    indices, weights = gather_table(csr_matrix(dense))
    x = generator.standard_normal((5, 3))
    product = (weights[..., None] * x[indices]).sum(axis=1)
    np.testing.assert_allclose(product, dense @ x, atol=1e-6)
    assert indices.dtype == np.int64 and weights.dtype == np.float32


def test_face_adjacency_holds_edges_and_self() -> None:
    table = face_adjacency(np.array([[0, 1, 2]]), 4)
    assert table[:3, :3].all() and table[3].tolist() == [False, False, False, True]
