import ast
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csc_matrix, csr_matrix

import pchmr.body
from pchmr.body import BodyModel, load_body
from pchmr.body.archive import BodyFileError, read_npz, write_npz
from pchmr.body.files import gender_name, search_paths
from pchmr.body.hierarchy import face_adjacency
from pchmr.body.joints import EVALUATION_14
from pchmr.body.levels import cache_folder

Arrays = dict[str, np.ndarray]


def save(folder: Path, name: str, arrays: Arrays) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if path.suffix == ".npz":
        write_npz(path, arrays)
    else:
        sparse = {**arrays, "J_regressor": csc_matrix(arrays["J_regressor"]), "bs_type": "lrotmin"}
        path.write_bytes(pickle.dumps(sparse, protocol=2))
    return path


def same(a: BodyModel, b: BodyModel) -> bool:
    pose = torch.full((1, 23, 3), 0.1)
    root, betas = torch.zeros(1, 3), torch.ones(1, 10)
    return torch.equal(a(root, pose, betas).vertices, b(root, pose, betas).vertices)


def test_npz_and_pkl_give_the_same_body(tmp_path, coarse_arrays: Arrays) -> None:
    from_npz = load_body(save(tmp_path, "SMPL_NEUTRAL.npz", coarse_arrays))
    from_pkl = load_body(save(tmp_path, "other.pkl", coarse_arrays))
    assert same(from_npz, from_pkl) and from_npz.sha256 == from_pkl.sha256
    assert from_npz.hierarchy.num_vertices == (431, 108, 27)
    assert from_npz.hierarchy.content_hash == from_pkl.hierarchy.content_hash
    assert from_npz.posedirs is not None and from_npz.gender == "neutral"


def test_levels_are_computed_once_and_cached(tmp_path, coarse_arrays: Arrays, monkeypatch) -> None:
    monkeypatch.setenv("PCHMR_CACHE", str(tmp_path / "cache"))
    path = save(tmp_path, "body.npz", coarse_arrays)
    first = load_body(path)
    (cached,) = cache_folder().iterdir()
    monkeypatch.setattr("pchmr.body.levels.compute_hierarchy", lambda arrays: pytest.fail("again"))
    assert load_body(path).hierarchy.content_hash == first.hierarchy.content_hash
    monkeypatch.undo()
    monkeypatch.setenv("PCHMR_CACHE", str(tmp_path / "cache"))
    cached.write_bytes(b"cut off")
    assert load_body(path).hierarchy.content_hash == first.hierarchy.content_hash
    assert cached.stat().st_size > 1000, "a damaged cache is written anew"


@pytest.mark.parametrize(
    "names",
    [
        ("SMPL_NEUTRAL.npz", "SMPL_FEMALE.npz", "SMPL_MALE.npz"),
        (
            "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl",
            "basicModel_f_lbs_10_207_0_v1.0.0.pkl",
            "basicmodel_m_lbs_10_207_0_v1.1.0.pkl",
        ),
    ],
)
def test_a_folder_holds_one_file_a_gender(tmp_path, coarse_arrays: Arrays, names) -> None:
    heights = {}
    for stretch, name in enumerate(names):
        taller = coarse_arrays["v_template"] * (1 + 0.1 * stretch)
        save(tmp_path, name, coarse_arrays | {"v_template": taller.astype(np.float32)})
    for gender in ("neutral", "female", "male"):
        body = load_body(tmp_path, gender=gender)
        assert body.gender == gender
        heights[gender] = float(body.v_template[:, 1].max())
    assert heights["neutral"] < heights["female"] < heights["male"]
    with pytest.raises(BodyFileError, match="female body, male was asked for"):
        load_body(tmp_path / names[1], gender="male")


def test_gender_that_is_not_there_is_one_line(tmp_path, coarse_arrays: Arrays) -> None:
    save(tmp_path, "SMPL_MALE.npz", coarse_arrays)
    with pytest.raises(BodyFileError, match="no female body file; expected SMPL_FEMALE"):
        load_body(tmp_path, gender="female")
    with pytest.raises(BodyFileError, match="embedded body is neutral only"):
        load_body(gender="female")
    with pytest.raises(BodyFileError, match="'tall' is none of"):
        load_body(gender="tall")


def test_regressors_beside_the_file_are_picked_up(tmp_path, coarse_arrays: Arrays) -> None:
    path = save(tmp_path, "SMPL_NEUTRAL.npz", coarse_arrays)
    assert not load_body(path).has_regressor(EVALUATION_14)
    table = np.full((17, 431), 1 / 431, dtype=np.float64)
    np.save(tmp_path / "J_regressor_h36m.npy", table)
    body = load_body(path)
    joints = body.regress(body.v_template, EVALUATION_14)
    torch.testing.assert_close(joints[0], body.v_template.mean(dim=0), atol=1e-5, rtol=0)
    np.save(tmp_path / "J_regressor_h36m.npy", table[:5])
    with pytest.raises(BodyFileError, match=r"h36m\.npy: holds \(5, 431\), expected \(17, 431\)"):
        load_body(path)
    np.save(tmp_path / "J_regressor_h36m.npy", table[:, :9])
    with pytest.raises(BodyFileError, match=r"holds \(17, 9\), expected \(17, 431\)"):
        load_body(path)
    np.save(tmp_path / "J_regressor_h36m.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(BodyFileError, match="Python objects"):
        load_body(path)


def test_mesh_downsampling_beside_the_file_is_taken(tmp_path, coarse_arrays: Arrays) -> None:
    path = save(tmp_path, "SMPL_NEUTRAL.npz", coarse_arrays)
    computed = load_body(path).hierarchy
    down = []
    for rows, matrix in zip(computed.kept, computed.upsample, strict=True):
        shape = matrix.shape[::-1]
        down.append(csr_matrix((np.ones(len(rows)), (np.arange(len(rows)), rows)), shape=shape))
    no_self = csr_matrix(computed.adjacency & ~np.eye(27, dtype=bool), dtype=float)
    parts = {"A": [csr_matrix((431, 431)), csr_matrix((108, 108)), no_self], "D": down}
    parts["U"] = [0.9 * matrix for matrix in computed.upsample]
    np.savez(tmp_path / "mesh_downsampling.npz", **{k: objects(v) for k, v in parts.items()})
    found = load_body(path).hierarchy
    assert found.num_vertices == computed.num_vertices and found.faces is None
    assert computed.is_computed and not found.is_computed
    assert np.array_equal(found.adjacency, computed.adjacency)
    np.testing.assert_allclose(found.upsample[1].sum(axis=1), 0.9, atol=1e-6)
    for a, b in zip(found.kept, computed.kept, strict=True):
        assert np.array_equal(a, b)
    tables = [
        face_adjacency(faces, n) for faces, n in zip(computed.faces, (431, 108, 27), strict=True)
    ]
    parts["A"] = [
        csr_matrix(table & ~np.eye(len(table), dtype=bool), dtype=float) for table in tables
    ]
    np.savez(tmp_path / "mesh_downsampling.npz", **{k: objects(v) for k, v in parts.items()})
    for level, faces in enumerate(load_body(path).hierarchy.faces):
        wanted, got = (
            {tuple(sorted(face)) for face in x.tolist()} for x in (computed.faces[level], faces)
        )
        assert wanted <= got and len(got) < 1.2 * len(wanted)
    np.save(tmp_path / "smpl_108_faces.npy", computed.faces[1])
    assert np.array_equal(load_body(path).hierarchy.faces[1], computed.faces[1])
    np.save(tmp_path / "smpl_108_faces.npy", computed.faces[1][:, :2])
    with pytest.raises(BodyFileError, match=r"smpl_108_faces\.npy: holds .* expected faces"):
        load_body(path)
    (tmp_path / "smpl_108_faces.npy").unlink()
    shifted = {**parts, "A": parts["A"][1:] + parts["A"][:1]}
    np.savez(tmp_path / "mesh_downsampling.npz", **{k: objects(v) for k, v in shifted.items()})
    with pytest.raises(BodyFileError, match=r"A\[0\] is \(108, 108\), expected 431 rows"):
        load_body(path)
    np.savez(tmp_path / "mesh_downsampling.npz", A=objects(parts["A"]), U=objects(parts["U"]))
    with pytest.raises(BodyFileError, match="mesh_downsampling"):
        load_body(path)


def objects(entries: list) -> np.ndarray:
    array = np.empty(len(entries), dtype=object)
    array[:] = entries
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": None}, "lacks weights"),
        (
            {"shapedirs": np.zeros((5, 3, 10))},
            r"shapedirs is \(5, 3, 10\)",
        ),
        ({"shapedirs": np.zeros((431, 3))}, r"must be \(V, 3, betas\)"),
        ({"v_template": np.full((431, 3), np.nan)}, "v_template holds values that are not finite"),
        ({"weights": np.full((431, 24), 0.5)}, "weights: rows must sum to 1"),
        ({"kintree_table": np.zeros((2, 24), dtype=int)}, "not SMPL's tree of 24 joints"),
        ({"kintree_table": np.zeros((2, 52), dtype=int)}, r"kintree_table is \(2, 52\)"),
        ({"f": np.full((4, 3), 431)}, "f points outside the 431 vertices"),
        ({"f": np.zeros((4, 3))}, "f holds float64"),
        ({"posedirs": np.zeros((431, 3, 9))}, r"posedirs is \(431, 3, 9\)"),
    ],
)
def test_files_that_contradict_themselves(tmp_path, coarse_arrays, change, message) -> None:
    arrays = {k: v for k, v in (coarse_arrays | change).items() if v is not None}
    with pytest.raises(BodyFileError, match=message) as caught:
        load_body(save(tmp_path, "body.npz", arrays))
    assert "body.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_a_mesh_that_cannot_be_coarsened_is_one_line(tmp_path, coarse_arrays: Arrays) -> None:
    path = save(tmp_path, "holes.npz", coarse_arrays | {"f": coarse_arrays["f"][::3]})
    with pytest.raises(BodyFileError, match=r"holes\.npz: mesh keeps \d+ vertices"):
        load_body(path)


def test_only_the_first_ten_shapes_are_kept(tmp_path, coarse_arrays: Arrays) -> None:
    many = np.concatenate([coarse_arrays["shapedirs"]] * 3, axis=2)
    body = load_body(save(tmp_path, "body.npz", coarse_arrays | {"shapedirs": many}))
    assert body.num_betas == 10


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (("m", "male", "M", 0, np.int64(0), b"m", "MALE"), "male"),
        (("f", "female", 1, np.str_("f"), b"female"), "female"),
        (("none", "neutral", "n", -1, "", None), "neutral"),
    ],
)
def test_labels_of_genders(labels, name) -> None:
    assert {gender_name(label) for label in labels} == {name}
    with pytest.raises(BodyFileError, match="gender 'x' is none of"):
        gender_name("x")


def test_files_that_are_no_body(tmp_path) -> None:
    with pytest.raises(BodyFileError, match="no such body file"):
        load_body(tmp_path / "missing.npz")
    for name, message in (("a.npz", "cannot be read"), ("a.pkl", "refused"), ("a.obj", "an .npz")):
        (tmp_path / name).write_bytes(b"not a body")
        with pytest.raises(BodyFileError, match=message):
            load_body(tmp_path / name)


def test_archives_with_objects_or_lying_headers_are_refused(tmp_path) -> None:
    path = tmp_path / "body.npz"
    np.savez(path, v_template=np.array([{}], dtype=object))
    with pytest.raises(BodyFileError, match="Python objects"):
        read_npz(path)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("v_template.npy", member)
    with pytest.raises(BodyFileError, match="larger than"):
        read_npz(path)
    assert read_npz(path, ["other"]) == {}


def test_archives_come_back_unchanged(tmp_path) -> None:
    arrays = {
        "floats": np.linspace(0, 1, 5, dtype=np.float32),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "text": np.array(["a", "bc"]),
        "empty": np.zeros((0, 3)),
    }
    write_npz(tmp_path / "x.npz", arrays)
    found = read_npz(tmp_path / "x.npz")
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    np.savez(tmp_path / "y.npz", **arrays)
    np.testing.assert_array_equal(read_npz(tmp_path / "y.npz")["fortran"], arrays["fortran"])
    assert [file.name for file in sorted(tmp_path.glob("*"))] == ["x.npz", "y.npz"]


def test_search_order_is_the_documented_one(tmp_path, coarse_arrays, monkeypatch) -> None:
    monkeypatch.setenv("PCHMR_DATA", str(tmp_path))
    assert search_paths()[0] == tmp_path / "body_models" / "smpl"
    assert search_paths(tmp_path / "x")[-1] == tmp_path / "x"
    monkeypatch.delenv("PCHMR_DATA")
    assert search_paths()[-1] == Path.home() / ".pchmr"
    monkeypatch.setenv("PCHMR_DATA", str(tmp_path))
    with pytest.raises(BodyFileError, match=r"SMPL_MALE\.pkl: no such body file, .*body_models"):
        load_body(Path("SMPL_MALE.pkl"))
    save(tmp_path / "smpl", "SMPL_MALE.pkl", coarse_arrays)
    assert load_body(Path("SMPL_MALE.pkl")).gender == "male"


def test_smpl_names_come_before_basic_model_names(tmp_path, coarse_arrays: Arrays) -> None:
    save(tmp_path, "basicmodel_m_lbs_10.npz", coarse_arrays | {"weights": np.zeros((431, 24))})
    save(tmp_path, "SMPL_MALE.pkl", coarse_arrays)
    assert load_body(tmp_path, gender="male").gender == "male"


def test_no_module_but_the_source_imports_a_build_package() -> None:
    imported = {}
    for file in (Path(pchmr.body.__file__).parent).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                imported.setdefault(name.split(".")[0], set()).add(file.stem)
                imported.setdefault(name, set()).add(file.stem)
    assert imported["anny"] == {"anny_source"}
    assert "pchmr.body.anny_source" not in imported
    assert not {"smplx", "chumpy", "pyfqmr"} & set(imported)


@pytest.mark.parametrize(("scale", "words"), [
    (1000, "looks like millimetres"), (100, "looks like centimetres"), (0.1, "write metres"),
])  # fmt: skip
def test_a_body_of_another_unit_is_told_so(tmp_path, coarse_arrays: Arrays, scale, words) -> None:
    template = scale * coarse_arrays["v_template"]
    path = save(tmp_path, "body.npz", coarse_arrays | {"v_template": template})
    with pytest.raises(BodyFileError, match=words):
        load_body(path)


def test_fewer_shapes_are_padded_with_zeros(tmp_path, coarse_arrays: Arrays) -> None:
    few = coarse_arrays["shapedirs"][:, :, :3]
    body = load_body(save(tmp_path, "body.npz", coarse_arrays | {"shapedirs": few}))
    assert body.num_betas == 10
    np.testing.assert_array_equal(body.shapedirs[:, :, :3], few)
    assert not body.shapedirs[:, :, 3:].any()


def test_values_beyond_float32_are_refused(tmp_path, coarse_arrays: Arrays) -> None:
    huge = coarse_arrays["shapedirs"].astype(np.float64)
    huge[0, 0, 0] = 1e300
    with pytest.raises(BodyFileError, match="shapedirs holds values that are not finite"):
        load_body(save(tmp_path, "body.npz", coarse_arrays | {"shapedirs": huge}))


def test_levels_denser_than_a_mesh_are_refused(tmp_path, coarse_arrays: Arrays) -> None:
    """Every triple of a dense table would be looked at: for ever."""
    path = save(tmp_path, "SMPL_NEUTRAL.npz", coarse_arrays)
    full = csr_matrix(np.ones((108, 108)))
    parts = {"A": [csr_matrix((431, 431)), full, csr_matrix((27, 27))]}
    parts["U"] = [csr_matrix((431, 108)), csr_matrix((108, 27))]
    parts["D"] = [matrix.T.tocsr() for matrix in parts["U"]]
    np.savez(tmp_path / "mesh_downsampling.npz", **{k: objects(v) for k, v in parts.items()})
    with pytest.raises(BodyFileError, match=r"A\[1\] has more neighbors"):
        load_body(path)
