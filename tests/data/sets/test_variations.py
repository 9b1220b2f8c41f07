"""What real files of the same layout do differently: nothing of it may change the labels.

Each variation rewrites a fixture set; its import must hold what that of the plain set holds.
"""

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import layouts
import numpy as np
import pytest

from pchmr.data.errors import InputError
from pchmr.data.sets.folder import ImportedPeople
from pchmr.data.sets.importing import import_set

COLUMNS = ("joints", "keypoints_2d", "body_pose", "betas", "transl", "intrinsics", "square")


def rows_of(people: ImportedPeople) -> dict[tuple, dict[str, np.ndarray]]:
    """Labels by clip, frame and gender."""
    details = {name: people.detail(name) for name in COLUMNS}
    names = zip(
        people.columns["clip"].tolist(),
        people.columns["frame"].tolist(),
        people.columns["gender"].tolist(),
        strict=True,
    )
    return {
        key: {name: values[row] for name, values in details.items()}
        for row, key in enumerate(names)
    }


def assert_rows(people: ImportedPeople, wanted: dict[tuple, dict[str, np.ndarray]]) -> None:
    found = rows_of(people)
    assert set(found) == set(wanted)
    for key, labels in wanted.items():
        for name, values in labels.items():
            np.testing.assert_allclose(found[key][name], values, atol=2e-5, err_msg=f"{key} {name}")


def rewrite(root: Path, change: Callable[[dict], dict], dump=pickle.dumps) -> None:
    """Every pickle of a set with its content changed; Python 2 pickles are read as they are."""
    for path in root.rglob("*.pkl"):
        content = pickle.loads(path.read_bytes(), encoding="latin1")
        path.write_bytes(dump(change(content)))


def with_sixty_hertz(content: dict) -> dict:
    return {**content, "img_frame_ids": 2 * np.arange(len(content["poses"][0]))}


def with_bytes(content: dict) -> dict:
    genders = [gender.encode() for gender in content["genders"]]
    return {key.encode(): value for key, value in {**content, "genders": genders}.items()}


def with_text_arrays(content: dict) -> dict:
    whole = {"m": "Male", "f": "FEMALE"}
    return {**content, "genders": np.array([whole[gender] for gender in content["genders"]])}


def with_byte_arrays(content: dict) -> dict:
    return {**content, "genders": np.array(content["genders"], dtype="S1")}


def with_one_array_for_all(content: dict) -> dict:
    return {
        **content,
        "poses": np.stack(content["poses"]),
        "trans": np.stack(content["trans"]).astype(np.float64),
        "betas": [betas.reshape(-1, 1) for betas in content["betas"]],
        "campose_valid": content["campose_valid"][0].astype(bool),
        "cam_intrinsics": np.tile(content["cam_intrinsics"], (len(content["cam_poses"]), 1, 1)),
    }


def with_lists(content: dict) -> dict:
    plain = ("poses", "trans", "campose_valid", "poses2d", "jointPositions")
    lists = {key: [np.asarray(own).tolist() for own in content[key]] for key in plain}
    return {**content, **lists, "cam_poses": content["cam_poses"].tolist()}


def with_least(content: dict) -> dict:
    gone = (
        "poses2d",
        "jointPositions",
        "img_frame_ids",
        "texture_maps",
        "sequence",
        "betas_clothed",
    )
    return {key: value for key, value in content.items() if key not in gone}


def in_columns(content: dict) -> dict:
    return {**content, "poses": [np.asfortranarray(own) for own in content["poses"]]}


VARIATIONS_3DPW = (
    with_sixty_hertz, with_bytes, with_text_arrays, with_byte_arrays, with_one_array_for_all,
    with_lists, with_least, in_columns,
)  # fmt: skip


@pytest.mark.parametrize("change", VARIATIONS_3DPW)
def test_3dpw_as_others_write_it(change, imported, sets, bodies, make_job, tmp_path) -> None:
    shutil.copytree(sets["3dpw"], tmp_path / "set")
    rewrite(tmp_path / "set", change)
    import_set(make_job("3dpw", tmp_path / "set", tmp_path / "out", bodies))
    assert_rows(ImportedPeople(tmp_path / "out", None), rows_of(imported["3dpw"]))


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(protocol, imported, sets, bodies, make_job, tmp_path) -> None:
    shutil.copytree(sets["3dpw"], tmp_path / "set")
    rewrite(tmp_path / "set", lambda content: content,
            lambda content: pickle.dumps(content, protocol=protocol))  # fmt: skip
    import_set(make_job("3dpw", tmp_path / "set", tmp_path / "out", bodies))
    assert_rows(ImportedPeople(tmp_path / "out", None), rows_of(imported["3dpw"]))


def test_pictures_that_are_numbered_as_the_recording_is(
    imported, sets, bodies, make_job, tmp_path
) -> None:
    """A folder whose pictures start elsewhere, as `img_frame_ids` says."""
    shutil.copytree(sets["3dpw"], tmp_path / "set")
    rewrite(tmp_path / "set", lambda c: {**c, "img_frame_ids": c["img_frame_ids"] + 700})
    for path in sorted((tmp_path / "set" / "imageFiles").rglob("*.jpg")):
        path.rename(path.with_name(f"image_{int(path.stem[-5:]) + 700:05d}.jpg"))
    import_set(make_job("3dpw", tmp_path / "set", tmp_path / "out", bodies))
    assert_rows(ImportedPeople(tmp_path / "out", None), rows_of(imported["3dpw"]))


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".png"])
@pytest.mark.parametrize("name", ["3dpw", "emdb", "h36m", "spin"])
def test_pictures_under_another_suffix(
    name, suffix, imported, sets, bodies, make_job, tmp_path
) -> None:
    from PIL import Image

    shutil.copytree(sets[name], tmp_path / "set")
    for path in (tmp_path / "set").rglob("*.jpg"):
        if suffix == ".png":
            Image.open(path).save(path.with_suffix(suffix))
            path.unlink()
        else:
            path.rename(path.with_suffix(suffix))
    import_set(make_job(name, tmp_path / "set", tmp_path / "out", bodies))
    found = ImportedPeople(tmp_path / "out", None)
    wanted = imported[name]
    assert len(found) == len(wanted)
    assert np.array_equal(found.image(0), wanted.image(0))


def test_sequences_without_a_usable_frame_are_counted(
    sets, bodies, imported, make_job, tmp_path
) -> None:
    """The first sequence that is read holds nothing, and then none does."""
    shutil.copytree(sets["3dpw"], tmp_path / "set")

    def nothing(content: dict) -> dict:
        return {**content, "campose_valid": [0 * own for own in content["campose_valid"]]}

    rewrite(tmp_path / "set" / "sequenceFiles" / "train", nothing)
    import_set(make_job("3dpw", tmp_path / "set", tmp_path / "out", bodies))
    people = ImportedPeople(tmp_path / "out", None)
    assert set(people.columns["split"]) == {"validation", "test"} and len(people) == 7
    assert people.manifest["left_out"]["camera pose not valid"] == 8 + 1 + 2
    rewrite(tmp_path / "set" / "sequenceFiles", nothing)
    with pytest.raises(InputError, match="no person that can be used"):
        import_set(make_job("3dpw", tmp_path / "set", tmp_path / "none", bodies))


def emdb_with_bare_boxes(content: dict) -> dict:
    return {**content, "bboxes": content["bboxes"]["bboxes"]}


def emdb_with_confidences(content: dict) -> dict:
    sure = np.ones_like(content["kp2d"][..., :1])
    return {**content, "kp2d": np.concatenate([content["kp2d"], sure], axis=-1)}


def emdb_with_rows_of_betas(content: dict) -> dict:
    count = len(content["smpl"]["trans"])
    smpl = {**content["smpl"], "betas": np.tile(content["smpl"]["betas"], (count, 1))}
    return {**content, "smpl": smpl, "good_frames_mask": content["good_frames_mask"].astype(int)}


def emdb_with_one_row_of_betas(content: dict) -> dict:
    return {**content, "smpl": {**content["smpl"], "betas": content["smpl"]["betas"][None]}}


def emdb_with_gaps(content: dict) -> dict:
    """Frames that are not good hold no numbers at all."""
    bad = ~np.asarray(content["good_frames_mask"], dtype=bool)
    smpl = {key: value.copy() for key, value in content["smpl"].items()}
    smpl["trans"][bad] = smpl["poses_root"][bad] = np.nan
    return {**content, "smpl": smpl}


def emdb_with_letters(content: dict) -> dict:
    flags = {name: np.bool_(content[name]) for name in ("emdb1", "emdb2")}
    return {**content, **flags, "gender": np.str_(content["gender"][0]), "kp2d": None}


@pytest.mark.parametrize(
    "change",
    [emdb_with_bare_boxes, emdb_with_confidences, emdb_with_rows_of_betas,
     emdb_with_one_row_of_betas, emdb_with_gaps, emdb_with_letters],
)  # fmt: skip
def test_emdb_as_others_write_it(change, imported, sets, bodies, make_job, tmp_path) -> None:
    shutil.copytree(sets["emdb"], tmp_path / "set")
    rewrite(tmp_path / "set", change)
    import_set(make_job("emdb", tmp_path / "set", tmp_path / "out", bodies))
    people = ImportedPeople(tmp_path / "out", None)
    assert_rows(people, rows_of(imported["emdb"]))
    assert people.manifest["counts"] == imported["emdb"].manifest["counts"]


def test_boxes_that_emdb_calls_invalid_are_not_used(sets, bodies, make_job, tmp_path) -> None:
    shutil.copytree(sets["emdb"], tmp_path / "set")
    rewrite(
        tmp_path / "set",
        lambda c: {**c, "bboxes": {"bboxes": np.tile([1.0, 2, 30, 40], (8, 1)),
                                   "invalid_idxs": np.array([4])}},
    )  # fmt: skip
    import_set(make_job("emdb", tmp_path / "set", tmp_path / "out", bodies))
    people = ImportedPeople(tmp_path / "out", None)
    side = people.detail("square")[:, 2]
    assert ((people.columns["frame"] == 4) == (np.abs(side - 1.2 * 38) > 1)).all()


def test_h36m_as_others_write_it(imported, sets, bodies, make_job, tmp_path) -> None:
    """Numbers nested otherwise, fits in rows, subjects missing, no names of actions."""
    shutil.copytree(sets["h36m"], tmp_path / "set")
    folder = tmp_path / "set" / "annotations"
    for path in folder.glob("*_camera.json"):
        cameras = json.loads(path.read_text())
        for camera in cameras.values():
            camera["R"] = np.ravel(camera["R"]).tolist()
            camera["t"] = [[value] for value in camera["t"]]
            camera["f"] = [camera["f"]]
        path.write_text(json.dumps(cameras))
    path = folder / "Human36M_subject1_smpl_param.json"
    text = path.read_text()
    fits = json.loads(text)
    for fit in (fit for frames in fits["2"].values() for fit in frames.values()):
        fit["pose"], fit["shape"], fit["trans"] = [fit["pose"]], [fit["shape"]], fit["trans"][0]
    path.write_text(json.dumps(fits))
    for path in folder.glob("*subject5*"):
        path.unlink()
    import_set(make_job("h36m", tmp_path / "set", tmp_path / "out", bodies))
    wanted = rows_of(imported["h36m"])
    kept = {key: labels for key, labels in wanted.items() if "s_05" not in key[0]}
    assert_rows(ImportedPeople(tmp_path / "out", None), kept)


def test_tsv_as_others_write_it(imported, sets, bodies, make_job, tmp_path) -> None:
    """Without offsets, with CR LF, sizes in words, joints flat, YAML with its marks."""
    shutil.copytree(sets["tsv"], tmp_path / "set")
    for path in (tmp_path / "set").glob("*.lineidx"):
        path.unlink()
    for path in (tmp_path / "set").glob("*.yaml"):
        text = path.read_text().replace("composite: true", "composite: True")
        path.write_text(f"---\n# made elsewhere\n{text}has-caption: 'no'\n...\n")
    for path in (tmp_path / "set").glob("*.label.tsv"):
        lines = []
        for line in path.read_text().splitlines():
            key, text = line.split("\t")
            label = json.loads(text)[0]
            label["3d_joints"] = label["3d_joints"][0]
            label["2d_joints"] = np.ravel(label["2d_joints"]).tolist()
            for name in ("has_2d_joints", "has_3d_joints"):
                del label[name]
            lines.append(f"{key}\t{json.dumps([label])}\r\n")
        path.write_bytes("".join(lines).encode())
    for path in (tmp_path / "set").glob("*.hw.tsv"):
        path.write_text("\n".join(f"{line.split(chr(9))[0]}\t120 100"
                                  for line in path.read_text().splitlines()) + "\n")  # fmt: skip
    import_set(make_job("tsv", tmp_path / "set", tmp_path / "out", bodies))
    found, wanted = ImportedPeople(tmp_path / "out", None), imported["tsv"]
    for name in COLUMNS:
        np.testing.assert_allclose(found.detail(name), wanted.detail(name), err_msg=name)


def test_label_archives_as_others_write_them(imported, sets, bodies, make_job, tmp_path) -> None:
    """Text as letters, scales in a column, joints without confidence, single precision."""
    shutil.copytree(sets["spin"], tmp_path / "set")
    path = tmp_path / "set" / "spin.npz"
    arrays = dict(np.load(path))
    arrays["imgname"] = np.char.decode(arrays["imgname"])
    arrays["scale"] = arrays["scale"][:, None]
    arrays["pose"] = arrays["pose"].astype(np.float32)
    arrays["gender"] = np.array(["f"] * len(arrays["scale"]), dtype="S1")
    np.savez_compressed(path, **arrays)
    import_set(make_job("spin", tmp_path / "set", tmp_path / "out", bodies))
    found, wanted = ImportedPeople(tmp_path / "out", None), imported["spin"]
    for name in ("joints", "keypoints_2d", "body_pose", "betas"):
        np.testing.assert_allclose(found.detail(name), wanted.detail(name), atol=1e-5)
    assert set(found.columns["gender"]) == {"female"}
    arrays["S"] = arrays["S"][..., :3]
    np.savez(path, **arrays)
    import_set(make_job("spin", tmp_path / "set", tmp_path / "sure", bodies))
    assert (ImportedPeople(tmp_path / "sure", None).detail("joints")[..., 3] == 1).all()


def test_long_names_stay_apart(arrays, bodies, make_job, tmp_path) -> None:
    """Scenes that share their first hundred letters are not one client."""
    layouts.write_truth(tmp_path, arrays)
    path = tmp_path / "truth.npz"
    whole = dict(np.load(path))
    start = "sehr-weit-oben-im-Gebäude-" * 5
    whole["scene"] = np.array([f"{start}{k}" for k in range(5)])
    np.savez(path, **whole)
    import_set(make_job("truth", tmp_path, tmp_path / "out", bodies))
    people = ImportedPeople(tmp_path / "out", None)
    assert len(people.manifest["clients"]) == 5
    assert all("\ufffd" not in name for name in people.manifest["clients"])


def test_a_person_far_away_in_a_far_world(arrays, gendered, bodies, make_job, tmp_path) -> None:
    """Hundreds of metres from the origin and a long lens: single precision must not show."""
    from test_samples import assert_mesh, assert_same, truth_of

    person = layouts.walk(4, 3, size=(90, 120))
    offset = np.array([812.0, -33.0, 407.0])
    turn = person.extrinsics[:, :3, :3]
    far = person.extrinsics.copy()
    far[:, :3, 3] -= (turn @ offset[:, None])[..., 0]
    far[:, 2, 3] += 12.0
    camera = person.intrinsics * np.array([[5.0], [5.0], [1.0]])
    camera[:2, 2] = person.intrinsics[:2, 2]
    moved = layouts.Walk(person.pose, person.betas, person.transl + offset, far, camera, (90, 120))
    layouts.write_emdb(tmp_path / "set", gendered, count=4)
    for path in (tmp_path / "set").rglob("*.pkl"):
        content = pickle.loads(path.read_bytes())
        smpl = {"poses_root": moved.pose[:, :3], "poses_body": moved.pose[:, 3:],
                "trans": moved.transl, "betas": moved.betas}  # fmt: skip
        content |= {"smpl": smpl, "good_frames_mask": np.ones(4), "gender": "male"}
        content["camera"] |= {"extrinsics": moved.extrinsics, "intrinsics": camera}
        content["bboxes"] = np.zeros((4, 4))
        path.write_bytes(pickle.dumps(content))
    import_set(make_job("emdb", tmp_path / "set", tmp_path / "out", bodies))
    people = ImportedPeople(tmp_path / "out", None)
    assert len(people) == 8
    for row, frame in enumerate(people.columns["frame"].tolist()):
        assert_same(people, row, *truth_of(moved, gendered["m"], frame))
        assert_mesh(people, row, bodies.by_gender["male"], moved, gendered["m"], frame)


def test_pickles_hold_text_and_no_more(tmp_path) -> None:
    """Arrays of text come out; letters that do not exist and objects do not."""
    from pchmr.door import FileError
    from pchmr.door.pickled import read_pickled

    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"a": np.array(["é", "männlich"]), "b": np.array([b"m"])}))
    found = read_pickled(path, ("a", "b"))
    assert found["a"].tolist() == ["é", "männlich"] and found["b"].tolist() == [b"m"]
    raw = pickle.dumps({"a": np.array(["ab"])}, protocol=4)
    assert b"a\0\0\0b\0\0\0" in raw
    path.write_bytes(raw.replace(b"a\0\0\0b\0\0\0", b"\xff\xff\xff\x7fb\0\0\0"))
    with pytest.raises(FileError, match="letters that do not exist"):
        read_pickled(path, ("a",))
    buffer = io.BytesIO()
    np.save(buffer, np.array([print]), allow_pickle=True)
    path.write_bytes(pickle.dumps({"a": np.array([print])}))
    with pytest.raises(FileError, match="not allowed"):
        read_pickled(path, ("a",))
