from pathlib import Path

import pytest
import torch

from pchmr.config import ModelOptions, SettingError
from pchmr.models import build_model, load_model, save_checkpoint
from pchmr.models.official import CheckpointError


def trained(tiny_body, model: str, folder: Path) -> Path:
    network = build_model(model, tiny_body.hierarchy, image_size=64)
    path = folder / "keypoints.safetensors"
    save_checkpoint(path, network)
    return path


@pytest.mark.parametrize("model", ["fastmetro_xs", "tore_xs"])
def test_backbone_and_keypoint_head_come_from_another_xs(tiny_body, tmp_path: Path, model) -> None:
    path = trained(tiny_body, "fastmetro_xs", tmp_path)
    source = load_model(ModelOptions(checkpoint=path), tiny_body.hierarchy, seed=0)[0]
    options = ModelOptions(model=model, backbone_weights=path)
    network, started_from = load_model(options, tiny_body.hierarchy, seed=1)
    for name in ("backbone", "keypoint_head"):
        given, taken = (getattr(m, name).state_dict() for m in (source, network))
        assert all(torch.equal(given[key], taken[key]) for key in given)
    assert started_from["backbone_file"] == path.name and len(started_from["backbone_sha256"]) == 64


def test_a_missing_file_is_named(tiny_body, tmp_path: Path) -> None:
    options = ModelOptions(backbone_weights=tmp_path / "nowhere.safetensors")
    with pytest.raises((CheckpointError, SettingError), match="nowhere"):
        load_model(options, tiny_body.hierarchy, seed=0)
