"""Published checkpoints: the variant is inferred, the round trip exact, anything else refused."""

import dataclasses
import pickle

import pytest
import torch

from pchmr.config import ModelOptions, SettingError
from pchmr.models import (
    build_model,
    load_checkpoint,
    load_model,
    load_official,
    save_checkpoint,
    to_official,
)
from pchmr.models.official import CheckpointError

SLOW = pytest.mark.slow
VARIANTS = [
    ("fastmetro_s", {}),
    ("tore_s", {"backbone": "efficientnet_b0", "keep_ratio": 0.5}),
    pytest.param("fastmetro_m", {"smpl_head": True}, marks=SLOW),
    pytest.param("fastmetro_l", {"backbone": "hrnet_w64"}, marks=SLOW),
    pytest.param("fastmetro_s", {"learned_upsample": True}, marks=SLOW),
    pytest.param("tore_s", {"keep_ratio": 1.0}, marks=SLOW),
    pytest.param("tore_m", {"keep_ratio": 0.05}, marks=SLOW),
    pytest.param("tore_l", {"backbone": "hrnet_w64"}, marks=SLOW),
]


@pytest.fixture(scope="module")
def state(ring):
    """A published-style state dict of TORE-S with EfficientNet, the smallest of them."""
    torch.manual_seed(0)
    return to_official(build_model("tore_s", ring, backbone="efficientnet_b0"))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_round_trip(name, options, ring, tmp_path):
    torch.manual_seed(0)
    model = build_model(name, ring, **options).eval()
    with torch.no_grad():
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.mul_(1.1)
    path = tmp_path / "model.bin"
    torch.save({f"module.{k}": v for k, v in to_official(model).items()}, path)
    loaded = load_official(path, ring)
    assert (loaded.name, loaded.choice.backbone) == (name, model.choice.backbone)
    assert loaded.choice.smpl_head == model.choice.smpl_head
    back, wanted = to_official(loaded), to_official(model)
    assert list(back) == list(wanted)
    assert all(torch.equal(back[key], wanted[key]) for key in wanted)


def test_strings_and_dicts_load_alike(state, ring, tmp_path):
    torch.save(state, tmp_path / "model.bin")
    a, b = load_official(str(tmp_path / "model.bin"), ring), load_official(state, ring)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not a.training


def test_every_missing_and_unexpected_key_is_named(state, ring):
    broken = dict(state)
    for key in ("cam_predictor.bias", "backbone._bn0.weight"):
        del broken[key]
    broken |= {"extra.weight": torch.ones(1), "transformer_3.more": torch.ones(1)}
    broken["conv_1x1.bias"] = torch.ones(3)
    with pytest.raises(CheckpointError) as caught:
        load_official(broken, ring)
    text = str(caught.value)
    for key in ("cam_predictor.bias", "backbone._bn0.weight", "extra.weight", "transformer_3.more"):
        assert key in text
    assert "conv_1x1.bias (3,) instead of (512,)" in text and "\n" not in text


class Payload:
    """A pickle that would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("save", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_code_in_a_pickle_is_not_run(save, state, ring, tmp_path):
    trap, path = tmp_path / "ran", tmp_path / "model.bin"
    save({**state, "x": Payload(trap)}, path)
    with pytest.raises(CheckpointError, match=r"model\.bin"):
        load_official(path, ring)
    assert not trap.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_file_is_refused(share, state, ring, tmp_path):
    path = tmp_path / "model.bin"
    torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"model\.bin"):
        load_official(path, ring)


@pytest.mark.parametrize("content", [[1, 2], {"model": 3}, {"a.weight": torch.ones(2)}])
def test_another_model_is_refused(content, ring, tmp_path):
    path = tmp_path / "model.bin"
    torch.save(content, path)
    with pytest.raises(CheckpointError):
        load_official(path, ring)


def test_a_missing_file_is_named(ring, tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.bin not found"):
        load_official(tmp_path / "absent.bin", ring)


def test_another_body_is_refused(state, tiny_body):
    with pytest.raises(CheckpointError, match="16 vertices"):
        load_official(state, tiny_body.hierarchy)


def test_learned_upsampling_must_fit_the_body(ring, synth):
    state = to_official(build_model("fastmetro_s", ring))
    state["vertex_token_embed.weight"] = torch.zeros(431, 512)
    with pytest.raises(CheckpointError, match=r"40 vertices \(coarse2intermediate_upsample"):
        load_official(state, synth)


def test_xs_has_no_published_form(ring):
    with pytest.raises(SettingError, match="no published counterpart"):
        to_official(build_model("fastmetro_xs", ring))


def test_levels_that_are_not_smpls_are_refused(state, body, ring, tmp_path):
    assert body.hierarchy.is_computed  # the embedded body has SMPL's counts, but no other likeness
    path = tmp_path / "tore.bin"
    torch.save(state, path)
    options = ModelOptions(checkpoint=path)
    assert load_model(options, ring, seed=0)[0].name == "tore_s"
    with pytest.raises(CheckpointError, match=r"give --body PATH of SMPL, that file beside it"):
        load_model(options, dataclasses.replace(ring, is_computed=True), seed=0)


def test_another_image_size_is_part_of_the_model(state, ring, tmp_path):
    torch.save(state, tmp_path / "model.bin")
    options = ModelOptions(checkpoint=tmp_path / "model.bin", smpl_head=True)
    model, started_from = load_model(options, ring, seed=0, image_size=96)
    assert (model.image_size, model.choice.image_size, model.choice.num_tokens) == (96, 96, 39)
    assert (started_from["kind"], started_from["random"]) == ("official", "SMPL head")
    save_checkpoint(tmp_path / "own.safetensors", model)
    again, _ = load_checkpoint(tmp_path / "own.safetensors", ring)
    assert again.image_size == 96 and again.choice.smpl_head
    images = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        wanted = load_official(state, ring)(images).vertices
        assert torch.equal(again(images).vertices, wanted)


ODD = {
    "is sparse": lambda x: x.to_sparse(),
    "not finite": lambda x: torch.full_like(x, torch.nan),
    "holds torch.int64": lambda x: x.long(),
    "holds torch.complex64": lambda x: x.to(torch.complex64),
}


@pytest.mark.parametrize("named", ODD)
def test_odd_tensors_are_refused(named, state, ring):
    broken = {**state, "conv_1x1.bias": ODD[named](state["conv_1x1.bias"])}
    with pytest.raises(CheckpointError, match=f"unusable: conv_1x1.bias .*{named}"):
        load_official(broken, ring)


def test_a_number_in_place_of_a_matrix_is_refused(state, ring):
    for key in ("token_selector_fc.weight", "vertex_token_embed.weight"):
        with pytest.raises(SettingError):
            load_official({**state, key: torch.tensor(1.0)}, ring)


def test_damaged_files_of_the_old_format_are_refused(ring, tmp_path):
    path = tmp_path / "model.bin"
    torch.save({"a.weight": torch.ones(40)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for end in range(1, len(content), 7):
        damaged = bytearray(content)
        damaged[end] ^= 0x5A
        for version in (content[:end], bytes(damaged)):
            path.write_bytes(version)
            with pytest.raises(CheckpointError) as caught:
                load_official(path, ring)
            assert "\n" not in str(caught.value)
