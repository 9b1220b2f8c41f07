"""Own checkpoints, random starts, and ImageNet backbones; what a model started from is told."""

import dataclasses
import json
from importlib import import_module

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pchmr.body import load_body
from pchmr.config import ModelOptions, SettingError
from pchmr.models import build_model, checkpoint, load_checkpoint, load_model, save_checkpoint
from pchmr.models.imagenet import load_backbone
from pchmr.models.official import CheckpointError


@pytest.fixture
def saved(tiny_body, tmp_path):
    torch.manual_seed(1)
    model = build_model("tore_xs", tiny_body.hierarchy, image_size=64, keep_ratio=0.5)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, {"recipe": "start-xs"})
    return model, path


def test_round_trip(saved, tiny_body):
    model, path = saved
    loaded, note = load_checkpoint(path, tiny_body.hierarchy)
    assert note["recipe"] == "start-xs" and note["num_vertices"] == [120, 48, 24]
    assert loaded.choice == model.choice and not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_half_precision_halves_the_file_and_loads_as_float32(saved, tiny_body, tmp_path):
    model, path = saved
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, model, dtype=torch.float16)
    assert half.stat().st_size < 0.55 * path.stat().st_size
    loaded, _ = load_checkpoint(half, tiny_body.hierarchy)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        a, b = model.eval()(images).vertices, loaded(images).vertices
    assert b.dtype == torch.float32 and torch.allclose(a, b, atol=5e-3)


def test_another_image_size_fits_the_same_weights(saved, tiny_body):
    _, path = saved
    loaded, _ = load_checkpoint(path, tiny_body.hierarchy, image_size=96)
    assert loaded.image_size == 96
    assert loaded(torch.rand(1, 3, 96, 96)).token_heatmap.shape == (1, 8, 36)


def test_another_body_is_refused(saved, ring):
    with pytest.raises(CheckpointError, match=r"levels \(120, 48, 24\)"):
        load_checkpoint(saved[1], ring)


def test_another_mesh_with_as_many_vertices_is_refused(saved, tiny_body):
    whole = tiny_body.hierarchy
    other = dataclasses.replace(whole, adjacency=np.ones_like(whole.adjacency))
    with pytest.raises(CheckpointError, match="another mesh with as many vertices"):
        load_checkpoint(saved[1], other)
    state, note = load_file(saved[1]), checkpoint.read_checkpoint(saved[1])[1]
    del note["topology_sha256"]  # files of before
    save_file(state, saved[1], metadata={"pchmr": json.dumps(note)})
    load_checkpoint(saved[1], other)


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": "64"},
        {"image_size": 10**9},
        {"smpl_head": 1},
        {"num_tokens": -3},
        {"num_tokens": 10**9},
        {"num_vertices": 3},
        {"num_vertices": ["120", 48, 24]},
        {"keep_ratio": None},
        {"model": ["tore_xs"]},
        {"model": "metro"},
        {"backbone": "vgg"},
    ],
)
def test_a_damaged_note_is_one_line(change, saved, tiny_body):
    state, note = load_file(saved[1]), checkpoint.read_checkpoint(saved[1])[1]
    save_file(state, saved[1], metadata={"pchmr": json.dumps({**note, **change})})
    with pytest.raises(SettingError) as caught:
        load_checkpoint(saved[1], tiny_body.hierarchy)
    assert "\n" not in str(caught.value)


def test_broken_files_are_refused(saved, tiny_body, tmp_path):
    _, path = saved
    for name, content in {"cut": path.read_bytes()[:1000], "empty": b"", "text": b"hello"}.items():
        broken = tmp_path / f"{name}.safetensors"
        broken.write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(broken, tiny_body.hierarchy)
    save_file({"a": torch.ones(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="not written by pchmr"):
        load_checkpoint(tmp_path / "foreign.safetensors", tiny_body.hierarchy)


def test_unknown_keys_are_named(saved, tiny_body):
    model, path = saved
    state = load_file(path)
    note = {**model.choice.as_dict(), "num_vertices": [120, 48, 24]}
    state["surprise.weight"] = torch.ones(1)
    del state["cam_predictor.bias"]
    save_file(state, path, metadata={"pchmr": json.dumps(note)})
    with pytest.raises(CheckpointError, match=r"cam_predictor\.bias.*surprise\.weight"):
        load_checkpoint(path, tiny_body.hierarchy)


def weights(options, body, seed=0):
    model, started_from = load_model(options, body.hierarchy, seed=seed, image_size=64)
    return model, started_from


def test_random_weights_follow_the_seed_alone(tiny_body):
    options = ModelOptions(from_scratch=True)
    before = torch.random.get_rng_state()
    first, started_from = weights(options, tiny_body)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    again, other = weights(options, tiny_body)[0], weights(options, tiny_body, seed=1)[0]
    assert started_from["kind"] == "random"
    assert torch.equal(first.conv_1x1.weight, again.conv_1x1.weight)
    assert not torch.equal(first.conv_1x1.weight, other.conv_1x1.weight)


def test_shipped_weights_are_the_default(saved, tiny_body, tmp_path, monkeypatch):
    model, path = saved
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    path.rename(tmp_path / "tore_xs.safetensors")
    loaded, started_from = weights(ModelOptions(model="tore_xs"), tiny_body)
    assert (started_from["kind"], started_from["name"]) == ("shipped", "tore_xs")
    assert len(started_from["sha256"]) == 64
    assert torch.equal(loaded.conv_1x1.weight, model.conv_1x1.weight)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": "fastmetro_s"}, "no start weights are shipped"),
        ({"model": "fastmetro_xs", "backbone": "resnet50"}, "--backbone resnet50"),
        ({"edition": 1}, "fastmetro_xs with --edition 1"),
        ({"edition": 2, "checkpoint": "saved"}, "--edition .* contradicts --checkpoint"),
        ({"edition": 2, "from_scratch": True}, "--edition .* contradicts"),
        ({"edition": 2, "backbone_weights": "saved"}, "contradicts .*--backbone-weights"),
        ({"model": "metro"}, "unknown --model metro"),
        ({"model": "fastmetro_l", "checkpoint": "saved"}, "--model fastmetro_l contradicts"),
        ({"backbone": "hrnet_w64", "checkpoint": "saved"}, "--backbone hrnet_w64 contradicts"),
        ({"backbone_weights": "saved", "checkpoint": "saved"}, "--backbone-weights"),
        ({"keep_ratio": 0.7, "checkpoint": "saved"}, r"--keep-ratio 0\.7 contradicts"),
        ({"learned_upsample": True, "checkpoint": "saved"}, "--learned-upsample True contradicts"),
        ({"learned_upsample": True}, "with --learned-upsample"),
        ({"model": "tore_xs", "keep_ratio": 0.5}, r"with --keep-ratio 0\.5"),
        ({"keep_ratio": 0.5, "from_scratch": True}, "--keep-ratio is read by TORE only"),
    ],
)
def test_unusable_options_are_named(options, named, saved, tiny_body):
    filled = {k: saved[1] if v == "saved" else v for k, v in options.items()}
    with pytest.raises(SettingError, match=named):
        weights(ModelOptions(**filled), tiny_body)


@pytest.mark.parametrize("model", ["fastmetro_xs", "tore_xs"])
def test_earlier_start_weights_still_ship(model):
    hierarchy = load_body().hierarchy
    latest, now = load_model(ModelOptions(model=model), hierarchy, seed=0)
    _, before = load_model(ModelOptions(model=model, edition=2), hierarchy, seed=0)
    assert (before["kind"], before["name"]) == (now["kind"], now["name"]) == ("shipped", model)
    assert before["sha256"] != now["sha256"]
    assert latest.name == model


def test_options_of_the_network_reach_it(tiny_body):
    options = ModelOptions(
        model="tore_xs", from_scratch=True, smpl_head=True, keep_ratio=0.5, learned_upsample=True
    )
    choice = weights(options, tiny_body)[0].choice
    assert choice.smpl_head and choice.learned_upsample
    assert (choice.keep_ratio, choice.num_tokens) == (0.5, 8)


def test_an_smpl_head_is_added_to_a_checkpoint(saved, tiny_body):
    options = ModelOptions(checkpoint=saved[1], smpl_head=True, keep_ratio=0.5)
    model, started_from = weights(options, tiny_body)
    assert started_from["random"] == "SMPL head" and model.choice.smpl_head
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in saved[0].state_dict().items())
    again = weights(options, tiny_body)[0].state_dict()
    assert all(torch.equal(again[key], value) for key, value in state.items())


def test_a_checkpoint_is_told(saved, tiny_body):
    model, started_from = weights(ModelOptions(checkpoint=saved[1]), tiny_body)
    assert model.name == "tore_xs"
    assert (started_from["kind"], started_from["file"]) == ("checkpoint", "model.safetensors")


def torchvision(name: str) -> torch.nn.Module:
    """A network of torchvision, which is imported only where it is needed."""
    return import_module("torchvision.models").get_model(name)


def timm(name: str) -> torch.nn.Module:
    """A network of timm."""
    return import_module("timm").create_model(name)


SOURCES = {
    "torchvision efficientnet": (
        "efficientnet_b0", lambda: torchvision("efficientnet_b0"), "features.0.0.weight"
    ),
    "timm efficientnet": (
        "efficientnet_b0", lambda: timm("tf_efficientnet_b0"), "conv_stem.weight"
    ),
    "torchvision resnet": ("resnet50", lambda: torchvision("resnet50"), "conv1.weight"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "suffix"),
    [
        ("torchvision efficientnet", ".pth"),
        ("timm efficientnet", ".safetensors"),
        pytest.param("torchvision resnet", ".safetensors", marks=pytest.mark.slow),
    ],
)
def test_imagenet_backbones(source, suffix, tiny_body, tmp_path):
    name, maker, first = SOURCES[source]
    torch.manual_seed(5)
    state = maker().state_dict()
    path = tmp_path / f"imagenet{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    options = ModelOptions(model="tore_s", backbone=name, backbone_weights=path)
    model, started_from = weights(options, tiny_body)
    assert torch.equal(next(iter(model.backbone.parameters())), state[first])
    assert started_from["kind"] == "random" and len(started_from["backbone_sha256"]) == 64


def test_imagenet_features_are_the_source_networks(tiny_body, tmp_path):
    torch.manual_seed(5)
    source = torchvision("resnet50").eval()
    torch.save(source.state_dict(), tmp_path / "r50.pth")
    model = build_model("tore_s", tiny_body.hierarchy).eval()
    load_backbone(model, tmp_path / "r50.pth")
    images = torch.rand(1, 3, 64, 64)
    body = torch.nn.Sequential(*list(source.children())[:-2])
    with torch.no_grad():
        assert torch.allclose(model.backbone(images), body(images), atol=1e-5)


def test_a_module_prefix_is_dropped(tiny_body, tmp_path):
    torch.manual_seed(5)
    state = torchvision("efficientnet_b0").state_dict()
    path = tmp_path / "parallel.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    options = ModelOptions(model="tore_s", backbone="efficientnet_b0", backbone_weights=path)
    model, _ = weights(options, tiny_body)
    assert torch.equal(next(iter(model.backbone.parameters())), state["features.0.0.weight"])


@pytest.mark.parametrize(
    ("name", "cure"),
    [("fastmetro_xs", "train --recipe start-keypoints"), ("tore_s", "check --backbone-weights$")],
)
def test_absent_backbone_weights_tell_the_cure(name, cure, tiny_body, tmp_path):
    options = ModelOptions(model=name, backbone_weights=tmp_path / "gone.safetensors")
    with pytest.raises(CheckpointError, match=rf"gone\.safetensors not found.*{cure}"):
        weights(options, tiny_body)


def test_foreign_backbone_weights_are_refused(tiny_body, tmp_path):
    path = tmp_path / "vgg.pth"
    torch.save({"features.0.weight": torch.ones(3)}, path)
    options = ModelOptions(model="tore_s", backbone_weights=path)
    with pytest.raises(CheckpointError, match=r"unexpected: features\.0\.weight"):
        weights(options, tiny_body)


def test_choice_is_plain(saved):
    assert json.loads(json.dumps(saved[0].choice.as_dict())) == dataclasses.asdict(saved[0].choice)
