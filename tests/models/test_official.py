"""Published checkpoints: the variant is inferred, the round trip exact, anything else refused."""

import pickle

import pytest
import torch

from pchmr.config import SettingError
from pchmr.models import build_model, load_official, to_official
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
