"""Faults of real files: what a few cost, what many are refused with, and what is understood."""

import json
import pickle
import shutil
from pathlib import Path

import layouts
import numpy as np
import pytest
from PIL import Image

from pchmr.data.errors import InputError
from pchmr.data.sets.check import check_set
from pchmr.data.sets.folder import ImportedPeople
from pchmr.data.sets.importing import import_set
from pchmr.data.sets.placing import Bodies
from pchmr.data.sets.tasks import run_import
from pchmr.evaluation import by_protocol


@pytest.fixture
def bring_in(tiny_body, make_job, tmp_path):
    """The function that imports a set with the tiny body and opens all of it."""

    def run(name: str, source: Path, to: str = "out", **options) -> ImportedPeople:
        import_set(make_job(name, source, tmp_path / to, Bodies(tiny_body, {}), **options))
        return ImportedPeople(tmp_path / to, None, body=tiny_body)

    return run


@pytest.fixture
def two(tiny_arrays) -> dict:
    """Arrays of bodies by letter."""
    return {"m": tiny_arrays, "f": tiny_arrays}


def rewrite(root: Path, change) -> None:
    for path in root.rglob("*.pkl"):
        content = pickle.loads(path.read_bytes(), encoding="latin1")
        path.write_bytes(pickle.dumps(change(content), protocol=2))


def relabel(path: Path, row: int, change) -> None:
    """Changes the text of one label of a TSV."""
    lines = path.read_text().splitlines()
    key, text = lines[row].split("\t")
    lines[row] = f"{key}\t{change(text)}"
    layouts.write_lines(path, lines)


def resize(root: Path) -> None:
    for path in root.rglob("*.jpg"):
        image = Image.open(path)
        image.resize((image.width // 2, image.height // 2)).save(path)


def test_pictures_that_are_unpacked_later_come_in(two, bring_in, tmp_path) -> None:
    layouts.write_3dpw(tmp_path / "set", two, count=2)
    pictures, away = tmp_path / "set" / "imageFiles", tmp_path / "away"
    pictures.rename(away)
    with pytest.raises(InputError, match=r"no person that can be used.*'picture missing': 5"):
        bring_in("3dpw", tmp_path / "set")
    away.rename(pictures)
    people = bring_in("3dpw", tmp_path / "set")
    assert len(people) == 5 and "picture missing" not in people.manifest["left_out"]


def test_an_old_import_says_so(two, tiny_bodies, tmp_path, capsys) -> None:
    from pchmr.config import DataConfig, DataOptions

    layouts.write_3dpw(tmp_path / "set", two, count=2)
    shutil.rmtree(tmp_path / "set" / "imageFiles" / "downtown_bar_02")
    config = DataConfig(
        task="import",
        arguments=("3dpw", str(tmp_path / "set"), str(tmp_path / "out")),
        output=tmp_path / "out",
        body=tiny_bodies,
        data_options=DataOptions(image_size=32),
    )
    run_import(config)
    assert "already" not in capsys.readouterr().err
    run_import(config)
    said = capsys.readouterr()
    assert "was imported already; pictures were missing: delete it" in said.out + said.err


@pytest.mark.parametrize(("kind", "key"), [("bedlam", "pose_cam"), ("spin", "pose")])
def test_labels_of_smplx_are_refused(kind, key, tiny_arrays, bring_in, tmp_path) -> None:
    layouts.write_npz(tmp_path, tiny_arrays, kind=kind)
    arrays = dict(np.load(tmp_path / f"{kind}.npz"))
    arrays[key] = np.pad(arrays[key], ((0, 0), (0, 93)))
    np.savez(tmp_path / f"{kind}.npz", **arrays)
    with pytest.raises(InputError, match="SMPL-X labels: get BEDLAM's SMPL ones"):
        bring_in(kind, tmp_path)


@pytest.mark.parametrize("name", ["3dpw", "emdb", "h36m", "bedlam"])
def test_pictures_that_were_resized_are_refused(name, tiny_sets, bring_in, tmp_path) -> None:
    shutil.copytree(tiny_sets[name], tmp_path / "set")
    if name == "bedlam":
        path = tmp_path / "set" / "bedlam.npz"
        arrays = {key: np.concatenate([v[:4], v[:4]]) for key, v in np.load(path).items()}
        np.savez(path, **arrays)
    resize(tmp_path / "set")
    with pytest.raises(InputError, match=r"px, its labels are of .*: get the pictures as they are"):
        bring_in(name, tmp_path / "set")


def test_one_resized_picture_is_left_out(tiny_sets, bring_in, tmp_path) -> None:
    shutil.copytree(tiny_sets["h36m"], tmp_path / "set")
    first = sorted((tmp_path / "set" / "images").rglob("*.jpg"))[0]
    Image.open(first).resize((60, 59)).save(first)
    people = bring_in("h36m", tmp_path / "set")
    assert people.manifest["left_out"]["picture of another size than its labels"] == 1


def test_bad_fits_of_h36m_are_not_trained_on(tiny_sets, bring_in, tmp_path) -> None:
    shutil.copytree(tiny_sets["h36m"], tmp_path / "set")
    path = tmp_path / "set" / "annotations" / "Human36M_subject1_smpl_param.json"
    fits = json.loads(path.read_text())
    frames = fits["2"]["1"]
    frames["0"]["pose"] = [0.9] * 72
    frames["10"]["shape"] = [0.2, 3.5] + [0.0] * 8
    frames["15"]["trans"] = [[float("nan")] * 3]
    path.write_text(json.dumps(fits))
    people = bring_in("h36m", tmp_path / "set")
    own = people.columns["subject"] == "S1"
    known = {
        int(frame): bool(has)
        for frame, has in zip(
            people.columns["frame"][own], people.detail("has_smpl")[own], strict=True
        )
    }
    assert known == {0: False, 5: False, 10: known[10], 15: False, 65: True}
    assert not people.detail("betas")[own & (people.columns["frame"] == 10)].any()
    left_out = people.manifest["left_out"]
    assert left_out["mesh not used: its joints are more than 50 mm off"] >= 2
    assert left_out["shape not used: wider than 3"] == 2
    assert left_out["mesh not used: its fit holds values not finite"] == 2
    assert (people.detail("own_joints_mm")[people.detail("has_smpl") > 0] < 50).all()


def test_files_of_protocol_2_are_held_out(tiny_arrays, bring_in, tmp_path) -> None:
    layouts.write_tsv(tmp_path / "tsv", tiny_arrays)
    (tmp_path / "tsv" / "test.yaml").rename(tmp_path / "tsv" / "valid.protocol2.yaml")
    assert set(bring_in("tsv", tmp_path / "tsv").columns["split"]) == {"train", "test"}
    (tmp_path / "npz").mkdir()
    layouts.write_npz(tmp_path / "npz", tiny_arrays, kind="spin")
    (tmp_path / "npz" / "spin.npz").rename(tmp_path / "npz" / "h36m_valid_protocol2.npz")
    assert set(bring_in("spin", tmp_path / "npz", "b").columns["split"]) == {"test"}


def test_3dpw_of_others_has_its_protocol(tiny_arrays, bring_in, tmp_path) -> None:
    layouts.write_tsv(tmp_path / "datasets" / "3dpw", tiny_arrays)
    people = bring_in("tsv", tmp_path / "datasets" / "3dpw")
    assert len(by_protocol(people, "3dpw", None)) == 3
    layouts.write_npz(tmp_path, tiny_arrays, kind="spin")
    (tmp_path / "spin.npz").rename(tmp_path / "3dpw_test.npz")
    people = bring_in("npz", tmp_path / "3dpw_test.npz", "b")
    assert len(by_protocol(people, "3dpw", None)) == 4


@pytest.mark.parametrize("start", ["../human3.6m/", "human3.6m/", "datasets/human3.6m/"])
def test_a_yaml_strings_other_folders_together(start, tiny_arrays, bring_in, tmp_path) -> None:
    """Names from the YAML's folder, from that of all sets, and from the one beside it."""
    root, mixed = tmp_path / "datasets", tmp_path / "datasets" / "Tax"
    layouts.write_tsv(root / "human3.6m", tiny_arrays)
    mixed.mkdir()
    text = (root / "human3.6m" / "train.yaml").read_text()
    for name in ("a", "b"):
        text = text.replace(f"{name}.img", f"{start}{name}.img")
        text = text.replace(f"{name}.label", f"{start}{name}.label")
        text = text.replace(f"{name}.hw", f"{start}{name}.hw")
    (mixed / "train.yaml").write_text(text)
    shutil.copy(root / "human3.6m" / "train.linelist.tsv", mixed)
    people = bring_in("tsv", root)
    assert len(people) == 9  # rows that both name are there once
    assert (
        people.manifest["left_out"] == {"listed by several YAMLs": 6}
        or not (people.manifest["left_out"])
    )
    if start.startswith(".."):
        with pytest.raises(InputError, match="give the folder that holds all sets"):
            bring_in("tsv", mixed, "b")


def test_rows_of_two_splits_are_refused(tiny_arrays, bring_in, tmp_path) -> None:
    layouts.write_tsv(tmp_path / "tsv", tiny_arrays)
    (tmp_path / "tsv" / "test.yaml").write_text((tmp_path / "tsv" / "train.yaml").read_text())
    with pytest.raises(InputError, match="which are of other splits: give one of the two"):
        bring_in("tsv", tmp_path / "tsv")


def test_a_damaged_row_or_picture_is_left_out(tiny_sets, bring_in, tmp_path) -> None:
    def copied(name: str) -> Path:
        return Path(shutil.copytree(tiny_sets[name], tmp_path / name))

    path = sorted((copied("3dpw") / "imageFiles").rglob("*.jpg"))[2]
    path.write_bytes(path.read_bytes()[:300])
    damaged = bring_in("3dpw", tmp_path / "3dpw").manifest["left_out"]["picture damaged"]
    assert damaged == 2  # both people of the picture
    labels = copied("tsv") / "a.label.tsv"
    relabel(labels, 0, lambda text: "[]")
    relabel(labels, 2, lambda text: text.replace('"scale": ', '"scale": NaN, "x": '))
    people = bring_in("tsv", tmp_path / "tsv", "b")
    assert people.manifest["left_out"] == {"label damaged": 2} and len(people) == 28
    file = copied("spin") / "spin.npz"
    arrays = dict(np.load(file))
    arrays["S"][1, 2] = np.nan
    np.savez(file, **arrays)
    assert bring_in("spin", tmp_path / "spin", "c").manifest["left_out"]["label damaged"] == 1
    file = copied("h36m") / "annotations" / "Human36M_subject1_data.json"
    data = json.loads(file.read_text())
    data["annotations"].pop()
    file.write_text(json.dumps(data))
    assert bring_in("h36m", tmp_path / "h36m", "d").manifest["left_out"] == {"label damaged": 1}


def test_much_damage_is_refused_with_its_first_cause(tiny_sets, bring_in, tmp_path) -> None:
    shutil.copytree(tiny_sets["tsv"], tmp_path / "set")
    for row in range(6):
        relabel(tmp_path / "set" / "b.label.tsv", row, lambda text: "[]")
    with pytest.raises(InputError, match=r"6 of \d+ people cannot .*/b.label.tsv line 0 holds no"):
        bring_in("tsv", tmp_path / "set")


def short(content: dict) -> dict:
    return {**content, "img_frame_ids": np.arange(40), "poses2d": [[[1], [2, 3]]] * 2,
            "jointPositions": [own[:-1] for own in content["jointPositions"]]}  # fmt: skip


def test_what_only_a_check_reads_costs_no_row(tiny_sets, bring_in, tmp_path) -> None:
    shutil.copytree(tiny_sets["3dpw"], tmp_path / "set")
    rewrite(tmp_path / "set", short)
    people = bring_in("3dpw", tmp_path / "set")
    left_out = people.manifest["left_out"]
    for key in ("jointPositions", "poses2d"):
        assert left_out[f"{key} not compared: they are of another shape"] == len(people)
    assert not check_set(people)[0]["own_joints_mm"]


@pytest.mark.parametrize("invalid", [None, (np.array([3]),), np.array([[3]])])
def test_emdb_with_other_boxes_and_joints(invalid, two, bring_in, tmp_path) -> None:
    layouts.write_emdb(tmp_path / "set", two, count=4)

    def changed(content: dict) -> dict:
        boxes = {"bboxes": content["bboxes"]["bboxes"], "invalid_idxs": invalid}
        return {**content, "bboxes": boxes, "kp2d": content["kp2d"][:-1]}

    rewrite(tmp_path / "set", changed)
    people = bring_in("emdb", tmp_path / "set")
    left_out = people.manifest["left_out"]
    assert left_out == {"frame not good": 1, "kp2d not compared: they are of another shape": 7}


def test_empty_arrays_and_bytes_of_old_protocols(tmp_path) -> None:
    from pchmr.door import FileError
    from pchmr.door.pickled import read_pickled

    path = tmp_path / "x.pkl"
    for protocol in range(3):
        path.write_bytes(pickle.dumps({"a": np.zeros((0, 3)), "b": b"", "c": 1}, protocol))
        found = read_pickled(path, ("a", "b", "c"))
        assert found["a"].shape == (0, 3) and not found["b"] and found["c"] == 1
    path.write_bytes(b"\x80\x02c__builtin__\nbytes\nK\x09\x85R.")
    with pytest.raises(FileError, match="bytes of anything"):
        read_pickled(path, ("a",))


def with_root(arrays: dict) -> dict:
    names = [f"/cluster/data/{name.decode()}" for name in arrays["imgname"]]
    return {**arrays, "imgname": np.array(names)}


def with_backslashes(arrays: dict) -> dict:
    names = ["D:\\data\\" + name.decode().replace("/", "\\") for name in arrays["imgname"]]
    return {**arrays, "imgname": np.array(names)}


def with_rows_of_vectors(arrays: dict) -> dict:
    return {**arrays, "pose": arrays["pose"].reshape(-1, 24, 3)}


def with_49_joints(arrays: dict) -> dict:
    return {**arrays, "S": np.pad(arrays["S"], ((0, 0), (25, 0), (0, 0)))}


def with_numbered_genders(arrays: dict) -> dict:
    return {**arrays, "gender": np.array([0.0, 1.0, -1.0, 0.0, 1.0])}


@pytest.mark.parametrize(
    "change",
    [with_root, with_backslashes, with_rows_of_vectors, with_49_joints, with_numbered_genders],
)
def test_label_archives_of_others(change, tiny_arrays, bring_in, tmp_path) -> None:
    layouts.write_npz(tmp_path, tiny_arrays, kind="spin")
    wanted = bring_in("spin", tmp_path / "spin.npz", "plain")
    arrays = dict(np.load(tmp_path / "spin.npz"))
    np.savez(tmp_path / "spin.npz", **change(arrays))
    found = bring_in("spin", tmp_path / "spin.npz")
    for name in ("joints", "keypoints_2d", "body_pose", "betas"):
        np.testing.assert_allclose(found.detail(name), wanted.detail(name), atol=1e-6)
    genders = found.columns["gender"].tolist()
    assert genders == (
        ["male", "female", "neutral", "male"] if "gender" in change(arrays) else ["neutral"] * 4
    )
    assert set(found.columns["scene"]) == set(wanted.columns["scene"])


def test_archives_keep_their_scenes_apart(tiny_arrays, bring_in, tmp_path) -> None:
    layouts.write_npz(tmp_path, tiny_arrays, kind="bedlam")
    arrays = dict(np.load(tmp_path / "bedlam.npz"))
    arrays["cam_int"] = arrays["cam_int"][0]
    np.savez(tmp_path / "bedlam_2.npz", **arrays)
    people = bring_in("npz", tmp_path)
    assert len(people) == 8
    assert (
        len(people.manifest["clients"]) == 6
        and "bedlam/bedlam_scene0" in (people.manifest["clients"])
    )


def test_rows_without_labeled_joints_have_no_distance(tiny_arrays, bring_in, tmp_path) -> None:
    layouts.write_tsv(tmp_path / "tsv", tiny_arrays)
    for path in (tmp_path / "tsv").glob("*.label.tsv"):
        for row in range(3):
            relabel(path, row, lambda t: t.replace('"has_3d_joints": 1', '"has_3d_joints": 0'))
    people = bring_in("tsv", tmp_path / "tsv")
    assert np.isnan(people.detail("own_joints_mm")).all()
    assert people.detail("has_smpl").sum() == 6


def test_a_share_of_frames_is_no_fault(two, bring_in, tmp_path) -> None:
    layouts.write_3dpw(tmp_path / "set", two, count=6)
    faults = check_set(bring_in("3dpw", tmp_path / "set", every=2))[0]["faults"]
    assert not [fault for fault in faults if " rows of " in fault]
    faults = check_set(bring_in("3dpw", tmp_path / "set", "all"))[0]["faults"]
    assert [fault for fault in faults if " rows of test" in fault]


def test_people_of_several_splits_are_a_fault_where_they_are_known(
    tiny_arrays, bring_in, tmp_path
) -> None:
    (tmp_path / "set").mkdir()
    layouts.write_truth(tmp_path / "set", tiny_arrays)
    path = tmp_path / "set" / "truth.npz"
    arrays = dict(np.load(path))
    np.savez(path, **arrays, subject=np.array(["Ann"] * 5))
    faults = check_set(bring_in("truth", tmp_path / "set"))[0]["faults"]
    assert "people stand in several splits: Ann" in faults
