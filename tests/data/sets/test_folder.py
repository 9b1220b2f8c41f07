"""The imported folder: stopped imports, damage, splits, checks, METRO's TSV and back."""

import json
import pickle
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch

from pchmr.config import DataOptions, UserError
from pchmr.data import load_people
from pchmr.data.augment import PUBLISHED, augment, changed_batch, warped
from pchmr.data.errors import InputError
from pchmr.data.sample import PeopleDataset, Subset, wide_batch
from pchmr.data.sets import DATASETS, draft, importing
from pchmr.data.sets.check import check_set
from pchmr.data.sets.draft import IMAGES, LABELS, MANIFEST
from pchmr.data.sets.folder import MARGIN_SHARE, ImportedPeople, is_imported
from pchmr.data.sets.importing import import_set
from pchmr.data.sets.metro_writer import write_tsv
from pchmr.data.sets.placing import Bodies


def test_every_set_is_a_people_dataset(imported) -> None:
    for people in imported.values():
        assert isinstance(people, PeopleDataset) and people.is_private
        assert len(people.batch([0, len(people) - 1])) == 2
        assert stat.S_IMODE(people.folder.stat().st_mode) == 0o700
        assert people.manifest["licence"] and people.manifest["page"]
        rows = sum(people.manifest["clients"].values())
        assert rows == people.manifest["num_rows"] == len(people)
    assert set(DATASETS) == {"3dpw", "emdb", "h36m", "tsv", "npz", "truth"}


def test_a_stopped_import_goes_on_and_ends_the_same(
    sets, bodies, make_job, imported, tmp_path, monkeypatch
) -> None:
    job = make_job("3dpw", sets["3dpw"], tmp_path / "half", bodies)
    add, calls = importing._add, []

    def stop_at_the_second(draft, own, source) -> None:
        calls.append(source.name)
        if len(calls) == 2:
            (draft.folder / IMAGES).open("ab").write(b"half a crop")
            raise KeyboardInterrupt
        add(draft, own, source)

    monkeypatch.setattr(importing, "_add", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        import_set(job)
    assert is_imported(tmp_path / "half")
    with pytest.raises(InputError, match="not imported to its end: give the same command again"):
        ImportedPeople(tmp_path / "half", None)
    monkeypatch.setattr(importing, "_add", lambda *a: (calls.append(a[2].name), add(*a)))
    import_set(job)
    assert calls == [calls[0], calls[1], calls[1], calls[3]] and len(set(calls)) == 3
    whole = imported["3dpw"].folder
    for name in (IMAGES, LABELS):
        assert (tmp_path / "half" / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "half").iterdir()) == sorted(
        [IMAGES, LABELS, MANIFEST]
    )
    seen: list[int] = []
    import_set(job, lambda done, total: seen.append(done))
    assert not seen  # nothing is left to do


def test_an_import_stopped_at_its_end_can_be_given_again(
    sets, bodies, make_job, imported, tmp_path, monkeypatch
) -> None:
    job = make_job("3dpw", sets["3dpw"], tmp_path / "set", bodies)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for piece in (draft.Draft, "_write_labels"), (draft, "_sha256"):
        with monkeypatch.context() as patch, pytest.raises((InputError, OSError)):
            patch.setattr(*piece, full)
            import_set(job)
    import_set(job)
    for name in (IMAGES, LABELS):
        assert (tmp_path / "set" / name).read_bytes() == (
            imported["3dpw"].folder / name
        ).read_bytes()


def test_another_import_does_not_go_on_with_it(sets, bodies, make_job, imported, tmp_path) -> None:
    job = make_job("emdb", sets["emdb"], tmp_path / "set", bodies)
    with pytest.raises(InputError, match="holds another import"):
        import_set(replace(job, folder=imported["3dpw"].folder))
    key = {**job.key(), "image_size": 32}
    from pchmr.data.sets.draft import Draft

    Draft.open(tmp_path / "set", key)
    with pytest.raises(InputError, match="unfinished import of other data or settings"):
        import_set(job)


@pytest.mark.parametrize("name", [IMAGES, LABELS, MANIFEST])
def test_damage_is_said_in_one_line(name: str, imported, tmp_path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(imported["truth"].folder, folder)
    content = (folder / name).read_bytes()
    for damaged in (content[:-7], content[: len(content) // 2], b"", content + b"x"):
        (folder / name).write_bytes(damaged)
        with pytest.raises(UserError) as said:
            people = ImportedPeople(folder, None)
            people.batch(range(len(people)))
        assert "\n" not in str(said.value)


def test_check_finds_changed_crops(imported, tmp_path) -> None:
    shutil.copytree(imported["truth"].folder, tmp_path / "set")
    assert check_set(ImportedPeople(tmp_path / "set", None))[0]["crops_are_whole"]
    path = tmp_path / "set" / IMAGES
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found, _ = check_set(ImportedPeople(tmp_path / "set", None))
    assert not found["crops_are_whole"]
    assert "crops are not those that were imported" in found["summary"]["faults"]


def test_load_people_takes_all_of_a_split_or_the_number_asked_for(imported, bodies) -> None:
    data = DataOptions(data=imported["3dpw"].folder)
    shared = {"body": bodies.neutral, "seed": 0, "image_size": 64}
    assert len(load_people(data, "train", **shared)) == 6
    assert len(load_people(data, "validation", **shared)) == 3
    few = replace(data, num_test_samples=2)
    assert len(load_people(few, "test", **shared)) == 2
    train = load_people(data, "train", **shared)
    test = load_people(data, "test", **shared)
    assert train.content_hash != test.content_hash
    with pytest.raises(InputError, match="no people of the split train, only of test"):
        load_people(DataOptions(data=imported["emdb"].folder), "train", **shared)


def test_columns_are_spelled_out_when_asked_for(imported) -> None:
    people = imported["3dpw"]
    columns = people.columns
    assert set(columns) >= {"subject", "scene", "action", "clip", "frame", "gender", "sequence"}
    assert columns.get("nothing") is None and columns.get("scene") is not None
    for name, values in columns.items():
        assert values.tolist() == columns[name].tolist() and len(values) == len(people)
    for copy in (dict(columns), {**columns}, columns | {}):
        assert all(len(values) == len(people) for values in copy.values())


def test_another_process_gets_the_folder_and_no_pictures(imported) -> None:
    people = ImportedPeople(imported["3dpw"].folder, "test", image_size=32)
    sent = pickle.dumps(people)
    again = pickle.loads(sent)
    assert len(sent) < 1000 and again.content_hash == people.content_hash
    assert (again.batch([1]).images == people.batch([1]).images).all()


@pytest.mark.parametrize("side", [64, 40])
def test_augmented_crops_show_what_lies_beyond_their_edges(side: int, imported) -> None:
    """A smaller scale brings the stored margin into view, as a crop of the photo would."""
    people = ImportedPeople(imported["truth"].folder, None, image_size=side)
    plain, wide = people.batch([0]), wide_batch(Subset(people, np.array([3, 0])), [1])
    margin = (wide.images.shape[-1] - side) // 2
    assert margin == side // MARGIN_SHARE
    inner = wide.images[..., margin:-margin, margin:-margin]
    torch.testing.assert_close(inner, plain.images, atol=2 / 255 + 1e-6, rtol=0)
    torch.testing.assert_close(wide.intrinsics, plain.intrinsics)
    still = torch.zeros(1)
    larger = warped(wide.images, side, still, still + 1 / 1.25, still > 0)
    assert larger[..., 0, :].mean() > 0.2
    black = warped(plain.images, side, still, still + 1 / 1.25, still > 0)
    assert black[..., 0, :].max() == 0
    same = warped(wide.images, side, still, still + 1, still > 0)
    torch.testing.assert_close(same, inner, atol=1e-5, rtol=0)
    mirrored = warped(wide.images, side, still, still + 1, still == 0)
    torch.testing.assert_close(mirrored, inner.flip(-1), atol=1e-5, rtol=0)
    first = changed_batch(people, [0], torch.Generator().manual_seed(5), PUBLISHED)
    second = augment(plain, torch.Generator().manual_seed(5), PUBLISHED)
    torch.testing.assert_close(first.keypoints_2d, second.keypoints_2d)
    torch.testing.assert_close(first.intrinsics, second.intrinsics)
    assert first.images.shape == second.images.shape


def test_another_body_is_refused(imported, tiny_body) -> None:
    with pytest.raises(InputError, match="imported with another body: give its --body"):
        ImportedPeople(imported["3dpw"].folder, "train", body=tiny_body)


def test_check_of_a_sound_set_finds_only_that_it_is_a_part(imported) -> None:
    for name in ("emdb", "3dpw", "h36m", "tsv", "truth"):
        found, sheets = check_set(imported[name])
        assert set(sheets) == {"sheet", "overlay"} and all(sheets.values())
        assert all("were published" in fault for fault in found["faults"]), found["faults"]
    assert found["sides"]["share_that_agrees"] in (1.0, None)


def _rewritten(tmp_path: Path, arrays, bodies, make_job, change) -> dict:
    """What a check finds in TSV files whose labels were changed."""
    layouts.write_tsv(tmp_path / "tsv", arrays)
    for path in (tmp_path / "tsv").glob("*.label.tsv"):
        rows = []
        for line in path.read_text().splitlines():
            key, text = line.split("\t")
            label = json.loads(text)[0]
            change(label)
            rows.append(f"{key}\t{json.dumps([label])}")
        layouts.write_lines(path, rows)
    import_set(make_job("tsv", tmp_path / "tsv", tmp_path / "set", bodies))
    return check_set(ImportedPeople(tmp_path / "set", None))[0]


def test_check_sees_millimetres(arrays, bodies, make_job, tmp_path) -> None:
    def in_millimetres(label: dict) -> None:
        label["3d_joints"] = (np.array(label["3d_joints"]) * [1000, 1000, 1000, 1]).tolist()

    found = _rewritten(tmp_path, arrays, bodies, make_job, in_millimetres)
    assert any("labels are not in metres" in fault for fault in found["faults"])


def test_check_sees_swapped_sides(arrays, bodies, make_job, tmp_path) -> None:
    from pchmr.body.joints import METRO_24

    def swapped(label: dict) -> None:
        label["2d_joints"] = [np.array(label["2d_joints"])[0][list(METRO_24.mirror)].tolist()]

    found = _rewritten(tmp_path, arrays, bodies, make_job, swapped)
    assert any("left and right disagree" in fault for fault in found["faults"])


def test_check_sees_people_and_crops_in_two_splits(arrays, bodies, make_job, tmp_path) -> None:
    layouts.write_tsv(tmp_path / "tsv", arrays)
    for path in (tmp_path / "tsv").glob("a.*"):
        shutil.copy(path, path.with_name(path.name.replace("a.", "test.", 1)))
    import_set(make_job("tsv", tmp_path / "tsv", tmp_path / "set", bodies))
    found, _ = check_set(ImportedPeople(tmp_path / "set", None))
    assert found["in_several_splits"]["scene"] == ["scène_a"]
    assert found["duplicates"]["between_splits"] == 3


def test_check_sees_a_wrong_camera(sets, arrays, gendered, bodies, make_job, tmp_path) -> None:
    """Truth of another body, or through another camera, does not project onto the set's joints."""
    layouts.write_emdb(tmp_path / "emdb", gendered)
    from unittest import mock

    from pchmr.data.sets import emdb

    entry = emdb._entry

    def zoomed(file, group, named, key, *shape, **options):
        found = entry(file, group, named, key, *shape, **options)
        return found * [[1.6], [1.6], [1]] if key == "intrinsics" else found

    with mock.patch.object(emdb, "_entry", zoomed):
        import_set(make_job("emdb", tmp_path / "emdb", tmp_path / "set", bodies))
    found, _ = check_set(ImportedPeople(tmp_path / "set", None))
    assert any("wrong body or camera" in fault for fault in found["faults"])


@pytest.mark.parametrize("name", ["3dpw", "h36m", "bedlam"])
def test_any_set_becomes_tsv_and_comes_back(
    name: str, imported, bodies, make_job, tmp_path
) -> None:
    people = imported[name]
    write_tsv(people, tmp_path / "tsv", lambda _: None)
    for path in (tmp_path / "tsv").glob("*.tsv"):
        content = path.read_bytes()
        starts = [int(word) for word in path.with_suffix(".lineidx").read_text().split()]
        assert content.isascii() and len(starts) == content.count(b"\n")
        assert all(start == 0 or content[start - 1 : start] == b"\n" for start in starts)
    neutral = Bodies(bodies.neutral, {})
    import_set(make_job("tsv", tmp_path / "tsv", tmp_path / "back", neutral))
    back = ImportedPeople(tmp_path / "back", None, body=bodies.neutral)
    assert len(back) == len(people)
    ours = np.lexsort([people.detail("joints")[:, 0, 0]])
    theirs = np.lexsort([back.detail("joints")[:, 0, 0]])
    for key in ("joints", "body_pose", "betas", "transl", "intrinsics", "global_orient"):
        shown = people.detail("has_smpl")[ours] > 0 if key != "joints" else slice(None)
        np.testing.assert_allclose(
            back.detail(key)[theirs][shown], people.detail(key)[ours][shown], atol=2e-4, err_msg=key
        )
    seen = [p.detail("keypoints_2d")[o][..., :2] for p, o in ((back, theirs), (people, ours))]
    np.testing.assert_allclose(*seen, atol=1e-4)
    for key in ("split", "subject", "scene", "sequence", "action", "clip", "frame", "protocol"):
        assert (people.columns[key][ours] == back.columns[key][theirs]).all(), key


def test_a_folder_that_is_no_set_is_said_so(sets, bodies, make_job, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    for name in DATASETS:
        with pytest.raises(UserError) as said:
            import_set(make_job(name, tmp_path / "empty", tmp_path / "out", bodies))
        assert "\n" not in str(said.value) and not (tmp_path / "out" / MANIFEST).exists()
    for name, reader in DATASETS.items():
        assert not reader.finds(tmp_path / "empty")
        if name != "npz":
            assert reader.finds(sets[name])


def test_object_arrays_are_refused_with_the_cure(arrays, bodies, make_job, tmp_path) -> None:
    layouts.write_npz(tmp_path, arrays, kind="objects")
    with pytest.raises(InputError, match="save it anew with plain arrays"):
        import_set(make_job("npz", tmp_path, tmp_path / "out", bodies))
