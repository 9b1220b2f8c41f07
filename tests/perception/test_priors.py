"""Every adapter on a tiny instance of its real network, its geometry checked in pixels.

The network's own output is replaced by a map computed from the pixels that it was given: a bright
spot of the picture becomes a heatmap peak, a brightness ramp a depth plane. Found back at the right
pixel, crop, padding, flip and decoding are right together.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pchmr.annotate.limbs import limb_mask, read_depth
from pchmr.body.joints import COCO_17
from pchmr.config import SettingError
from pchmr.perception import PRIORS, load_depth_prior, load_keypoint_prior
from pchmr.perception.boxes import parse_box
from pchmr.perception.crops import Crop, heatmap_peaks
from pchmr.perception.interfaces import Box, DepthMap, DepthPrior, KeypointPrior
from pchmr.perception.names import GOLIATH_70

HEIGHT, WIDTH = 120, 200
SPOT = np.array([93.5, 61.5])
BOX = Box(x=60.0, y=20.0, width=60.0, height=90.0)


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip(
        "transformers", reason="install the extra: pip install pchmr[priors]"
    )


def spot_picture() -> np.ndarray:
    """A bright disc around `SPOT` on black."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    near = np.exp(-((x - SPOT[0]) ** 2 + (y - SPOT[1]) ** 2) / (2 * 3.0**2))
    return np.repeat((255 * near).astype(np.uint8)[..., None], 3, axis=-1)


def ramp_picture() -> np.ndarray:
    """Brighter to the right and downward."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    value = 40 + 0.6 * x + 0.5 * y
    return np.repeat(value.astype(np.uint8)[..., None], 3, axis=-1)


def brightness(pixels: Tensor, mean: float, sd: float) -> Tensor:
    """Brightness 0..1 of normalized pixels, first channel."""
    return (pixels[:, :1] * sd + mean) / 255


def as_heatmaps(value: Tensor, count: int, rows: int, columns: int, aligned: bool) -> Tensor:
    maps = F.interpolate(
        value, size=(rows, columns), mode="bilinear", align_corners=aligned or None
    )
    return maps.expand(-1, count, -1, -1).clamp(0, 1)


def answer(adapter, compute: Callable[[Tensor], object]) -> None:
    """Lets the network run, then replaces what it said."""

    def hook(module, args, kwargs, output):
        pixels = kwargs["pixel_values"] if "pixel_values" in kwargs else args[0]
        found = compute(pixels)
        return found if isinstance(found, Tensor) else SimpleNamespace(**{**vars(output), **found})

    adapter.model.register_forward_hook(hook, with_kwargs=True)


def save(model, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def sapiens2_pose(transformers, folder: Path) -> Path:
    head = transformers.models.sapiens2.Sapiens2HeadConfig(
        upsample_out_channels=[16, 16], upsample_kernel_sizes=[4, 4], conv_out_channels=[16],
        conv_kernel_sizes=[1],
    )  # fmt: skip
    return save(
        transformers.Sapiens2ForPoseEstimation(sapiens2_config(transformers, head, 308)), folder
    )


def sapiens2_config(transformers, head, num_labels: int):
    return transformers.Sapiens2Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_attention_heads=2, num_first_full_attention_layers=1,
        num_last_full_attention_layers=1, num_register_tokens=2, image_size=[128, 96],
        patch_size=16, num_labels=num_labels, head_config=head,
    )  # fmt: skip


def sapiens2_pointmap(transformers, folder: Path) -> Path:
    head = transformers.models.sapiens2.Sapiens2HeadConfig(
        use_pixel_shuffle=True, upsample_out_channels=[16] * 4, upsample_kernel_sizes=[3] * 4,
        conv_out_channels=[16], conv_kernel_sizes=[3], scale_conv_out_channels=[8, 8],
        scale_conv_kernel_sizes=[3, 3], scale_final_hidden_sizes=[8, 8],
    )  # fmt: skip
    config = sapiens2_config(transformers, head, 3)
    return save(transformers.Sapiens2ForPointmapEstimation(config), folder)


def vitpose(transformers, folder: Path) -> Path:
    backbone = transformers.VitPoseBackboneConfig(
        image_size=[64, 48], patch_size=[16, 16], hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, out_indices=[2],
    )  # fmt: skip
    config = transformers.VitPoseConfig(backbone_config=backbone, num_labels=17)
    return save(transformers.VitPoseForPoseEstimation(config), folder)


def depth_anything(transformers, folder: Path, kind: str) -> Path:
    backbone = transformers.Dinov2Config(
        image_size=56, patch_size=14, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16, head_hidden_size=8, depth_estimation_type=kind,
        max_depth=20 if kind == "metric" else 1,
    )  # fmt: skip
    return save(transformers.DepthAnythingForDepthEstimation(config), folder)


def depth_pro(transformers, folder: Path) -> Path:
    part = {
        "model_type": "dinov2", "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 1,
        "patch_size": 4, "image_size": 16,
    }  # fmt: skip
    config = transformers.DepthProConfig(
        patch_size=16, fusion_hidden_size=16, intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[10, 8], scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.2], scaled_images_feature_dims=[12, 12],
        use_fov_model=True, num_fov_head_layers=1, image_model_config=part, patch_model_config=part,
        fov_model_config=part,
    )  # fmt: skip
    return save(transformers.DepthProForDepthEstimation(config), folder)


def expect_spot(prior: KeypointPrior, count: int) -> None:
    assert isinstance(prior, KeypointPrior) and len(prior.names) == count
    found = prior.keypoints(spot_picture(), BOX)
    assert found.shape == (count, 3)
    np.testing.assert_allclose(found[:, :2], np.tile(SPOT, (count, 1)), atol=0.5)
    assert (found[:, 2] > 0.5).all() and len(prior.provenance.sha256) == 64


@pytest.mark.parametrize("name", ["sapiens2-pose", "vitpose"])
def test_heatmap_networks_find_the_spot(transformers, tmp_path: Path, name: str) -> None:
    make = {"sapiens2-pose": sapiens2_pose, "vitpose": vitpose}[name]
    prior = load_keypoint_prior(name, make(transformers, tmp_path))
    plain = prior.keypoints(spot_picture(), BOX)
    assert np.isfinite(plain).all()
    total = 308 if name == "sapiens2-pose" else 17
    size = (32, 24) if name == "sapiens2-pose" else (16, 12)
    answer(prior, lambda p: {
        "heatmaps": as_heatmaps(brightness(p, 123.675, 58.395), total, *size, True)
    })  # fmt: skip
    expect_spot(prior, len(GOLIATH_70) if total == 308 else 17)


def test_a_flip_swaps_sides(transformers, tmp_path: Path) -> None:
    """A network that fires for the left eye in the left half only, whatever it sees."""
    prior = load_keypoint_prior("vitpose", vitpose(transformers, tmp_path))
    left, right = COCO_17.indices(("left_eye", "right_eye"))

    def compute(pixels: Tensor) -> dict[str, Tensor]:
        maps = torch.full((1, 17, 16, 12), 1e-6)
        maps[0, left, 8, 2] = 1.0
        maps[0, right, 8, 9] = 1.0
        return {"heatmaps": maps}

    answer(prior, compute)
    found = prior.keypoints(spot_picture(), BOX)
    assert found[left, 0] < BOX.center[0] < found[right, 0]
    assert found[left, 2] == pytest.approx(1.0, abs=1e-3)


def test_pointmap_gives_metres_and_the_focal_length(transformers, tmp_path: Path) -> None:
    prior = load_depth_prior("sapiens2-pointmap", sapiens2_pointmap(transformers, tmp_path))
    assert isinstance(prior, DepthPrior)
    scale = 0.8

    def compute(pixels: Tensor) -> dict[str, Tensor]:
        z = scale * (1 + 4 * brightness(pixels, 123.675, 58.395))
        return {"pointmaps": z.expand(-1, 3, -1, -1), "scales": torch.tensor([[scale]])}

    answer(prior, compute)
    expect_plane(prior.depth(ramp_picture(), BOX), "metric", lambda v: 1 + 4 * v)
    # The frame is 96 wide and stretched over 200 pixels: f = 96 / s frame pixels.
    focal = prior.depth(ramp_picture(), BOX).focal_length
    assert focal == pytest.approx(96 / scale * 200 / 96)


def expect_plane(found: DepthMap, kind: str, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    """The ramp's brightness, mapped, at inner pixels of the picture."""
    assert found.kind == kind and found.depth.shape == (HEIGHT, WIDTH)
    wanted = expected(ramp_picture()[..., 0] / 255)
    inner = np.s_[30:90, 75:105]
    np.testing.assert_allclose(found.depth[inner], wanted[inner], rtol=0.03)


@pytest.mark.parametrize(("kind", "ours"), [("relative", "affine_disparity"), ("metric", "metric")])
def test_depth_anything(transformers, tmp_path: Path, kind: str, ours: str) -> None:
    prior = load_depth_prior("depth-anything", depth_anything(transformers, tmp_path, kind))
    assert np.isfinite(prior.depth(ramp_picture(), BOX).depth).all()
    answer(prior, lambda p: {"predicted_depth": 2 * brightness(p, 123.675, 58.395)[:, 0]})
    expect_plane(prior.depth(ramp_picture(), BOX), ours, lambda v: 2 * v)


def test_depth_pro_gives_metres_by_its_field_of_view(transformers, tmp_path: Path) -> None:
    prior = load_depth_prior("depth-pro", depth_pro(transformers, tmp_path))
    assert np.isfinite(prior.depth(ramp_picture(), BOX).depth).all()
    answer(prior, lambda p: {
        "predicted_depth": brightness(p, 127.5, 127.5)[:, 0], "field_of_view": torch.tensor([90.0])
    })  # fmt: skip
    # 90 degrees over 200 pixels: f = 100, so the inverse depth is twice what the network says.
    expect_plane(prior.depth(ramp_picture(), BOX), "metric", lambda v: 1 / (2 * v))
    assert prior.depth(ramp_picture(), BOX).focal_length == pytest.approx(100)


def script(path: Path, source: torch.nn.Module) -> Path:
    torch.jit.script(source).save(str(path))
    return path


class SpotNetwork(torch.nn.Module):
    """Heatmaps like a Sapiens v1 file's, from brightness."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, pixels: Tensor) -> Tensor:
        value = (pixels[:, :1] * 58.5 + 123.5) / 255
        maps = F.interpolate(value, size=[256, 192], mode="bilinear", align_corners=True)
        return maps.clamp(0.0, 1.0).repeat(1, self.count, 1, 1)


class RampNetwork(torch.nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return 3 * (pixels[:, :1, ::4, ::4] * 58.5 + 123.5) / 255


def test_sapiens1_keypoints_and_depth(tmp_path: Path) -> None:
    for count, names in ((17, 17), (308, 70)):
        weights = script(tmp_path / f"pose{count}.pt2", SpotNetwork(count))
        expect_spot(load_keypoint_prior("sapiens1-pose", weights), names)
    depth = load_depth_prior("sapiens1-depth", script(tmp_path / "depth.pt2", RampNetwork()))
    expect_plane(depth.depth(ramp_picture(), BOX), "affine", lambda v: 3 * v)
    with pytest.raises(SettingError, match="give 21 keypoints"):
        load_keypoint_prior("sapiens1-pose", script(tmp_path / "odd.pt2", SpotNetwork(21)))


def simcc_file(path: Path, count: int = 17) -> Path:
    """An ONNX file whose histograms are the brightest column and row, twice as fine."""
    onnx = pytest.importorskip("onnx", reason="install the extra: pip install pchmr[export]")
    from onnx import TensorProto, helper, numpy_helper

    def histogram(axis: int, name: str, size: int):
        return [
            helper.make_node("ReduceMax", ["gray", f"{name}_axes"], [f"{name}_row"], keepdims=0),
            helper.make_node("Resize", [f"{name}_3d", "", "", f"{name}_size"], [f"{name}_fine"],
                             mode="linear", coordinate_transformation_mode="half_pixel"),
            helper.make_node("Tile", [f"{name}_fine", "repeats"], [f"simcc_{name}"]),
        ]  # fmt: skip

    x, y = histogram(2, "x", 96), histogram(3, "y", 128)
    x.insert(1, helper.make_node("Unsqueeze", ["x_row", "one"], ["x_3d"]))
    y.insert(1, helper.make_node("Unsqueeze", ["y_row", "one"], ["y_3d"]))
    tables = {
        "x_axes": [1, 2], "y_axes": [1, 3], "one": [1], "x_size": [1, 1, 96], "y_size": [1, 1, 128],
        "repeats": [1, count, 1],
    }  # fmt: skip
    scale = [numpy_helper.from_array(np.array(v, dtype=np.float32), k)
             for k, v in {"sd": [58.395 / 255], "mean": [123.675 / 255]}.items()]  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["input", "sd"], ["scaled"]),
            helper.make_node("Add", ["scaled", "mean"], ["gray"]),
            *x, *y,
        ],
        "simcc",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 64, 48])],
        [
            helper.make_tensor_value_info("simcc_x", TensorProto.FLOAT, [1, count, 96]),
            helper.make_tensor_value_info("simcc_y", TensorProto.FLOAT, [1, count, 128]),
        ],
        [*(numpy_helper.from_array(np.array(v, dtype=np.int64), k) for k, v in tables.items()),
         *scale],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def test_rtmpose_finds_the_spot(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="install the extra: pip install pchmr[export]")
    prior = load_keypoint_prior("rtmpose-onnx", simcc_file(tmp_path / "rtm.onnx"))
    found = prior.keypoints(spot_picture(), BOX)
    np.testing.assert_allclose(found[:, :2], np.tile(SPOT, (17, 1)), atol=1.2)
    with pytest.raises(SettingError, match="expected one of"):
        load_keypoint_prior("rtmpose-onnx", simcc_file(tmp_path / "odd.onnx", 21))


class Odd(torch.nn.Module):
    """A TorchScript file for something else."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, pixels: Tensor) -> Tensor:
        if self.kind == "flat":
            return pixels.flatten()
        if self.kind == "maps":
            return pixels
        return pixels.view(-1, 7)


@pytest.mark.parametrize(("kind", "message"), [
    ("flat", "expected maps"), ("maps", "keypoints, expected one of|expected one"),
    ("broken", "cannot be run on a picture"),
])  # fmt: skip
def test_torchscript_with_other_outputs_is_refused_in_one_line(
    tmp_path: Path, kind: str, message: str
) -> None:
    weights = script(tmp_path / "odd.pt2", Odd(kind))
    with pytest.raises(SettingError, match=message) as refused:
        load_keypoint_prior("sapiens1-pose", weights)
    assert "\n" not in str(refused.value)
    depth = load_depth_prior("sapiens1-depth", weights)
    with pytest.raises(SettingError, match=message) as refused:
        depth.depth(ramp_picture(), BOX)
    assert "\n" not in str(refused.value)


def test_histograms_that_are_none_are_refused_in_one_line(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="install the extra: pip install pchmr[export]")
    pytest.importorskip("onnxruntime", reason="install the extra: pip install pchmr[export]")
    path = simcc_file(tmp_path / "rtm.onnx")
    for odd, message in (
        ("swapped", "which is no SimCC"), ("free", "fixed height and width"),
        ("gray", "cannot be run on a picture"),
    ):  # fmt: skip
        model = onnx.load(str(path))
        size = model.graph.input[0].type.tensor_type.shape.dim
        if odd == "swapped":
            x, y = model.graph.output
            x.name, y.name = y.name, x.name
            x.type.tensor_type.shape.dim[2].dim_value = 128
            y.type.tensor_type.shape.dim[2].dim_value = 96
        elif odd == "free":
            size[2].dim_param = "height"
        else:
            size[1].dim_value = 1
        onnx.save(model, str(tmp_path / f"{odd}.onnx"))
        with pytest.raises(SettingError, match=message) as refused:
            load_keypoint_prior("rtmpose-onnx", tmp_path / f"{odd}.onnx")
        assert "\n" not in str(refused.value)


def test_weights_of_another_network_are_refused(transformers, tmp_path: Path) -> None:
    folder = sapiens2_pointmap(transformers, tmp_path / "map")
    with pytest.raises(SettingError, match="give 3 keypoints, expected 308"):
        load_keypoint_prior("sapiens2-pose", folder)
    with pytest.raises(SettingError, match=r"config\.json"):
        load_keypoint_prior("vitpose", tmp_path)
    with pytest.raises(SettingError, match="nothing is downloaded"):
        load_keypoint_prior("vitpose", tmp_path / "absent")
    with pytest.raises(SettingError, match="unknown prior"):
        load_depth_prior("vitpose", folder)
    (tmp_path / "junk").write_bytes(b"junk")
    for name, load in (
        ("sapiens1-pose", load_keypoint_prior),
        ("rtmpose-onnx", load_keypoint_prior),
    ):
        with pytest.raises(SettingError, match="is no"):
            load(name, tmp_path / "junk")


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "pchmr.perception.vitpose", raising=False)
    with pytest.raises(SettingError, match=r"pchmr\[priors\]"):
        load_keypoint_prior("vitpose", tmp_path)


def test_every_prior_names_a_file() -> None:
    folder = Path(__file__).parents[2] / "src"
    for prior in PRIORS.values():
        module, kind = prior.target.split(":")
        assert f"class {kind}" in (folder / f"{module.replace('.', '/')}.py").read_text()


@pytest.mark.parametrize("aligned", [True, False])
def test_a_planted_peak_comes_back(aligned: bool) -> None:
    crop = Crop.around(BOX, 48, 64, aligned=aligned)
    maps = torch.zeros(1, 16, 12)
    maps[0, 5, 7] = 0.9
    wanted = crop.locate(np.array([[7.0, 5.0]]), 12, 16)
    np.testing.assert_allclose(heatmap_peaks(maps, crop)[:, :2], wanted, atol=1e-3)


def test_a_strip_around_a_limb_and_depth_under_a_keypoint() -> None:
    keypoints = np.array([[20.5, 20.5, 1.0], [60.5, 20.5, 1.0], [500.0, 10.0, 1.0]])
    mask = limb_mask(keypoints[:2], ("left_shoulder", "left_elbow"), (40, 80))
    assert mask[20, 40] and not mask[30, 40] and mask.sum() < 200
    depth = DepthMap(kind="metric", depth=np.arange(3200.0).reshape(40, 80))
    found = read_depth(depth, keypoints)
    assert found[0] == 20 * 80 + 20 and np.isnan(found[2])


def test_boxes_are_checked() -> None:
    assert parse_box("1,2,3,4") == Box(x=1.0, y=2.0, width=3.0, height=4.0)
    for text in ("1,2,3", "a,b,c,d", "1,2,0,4"):
        with pytest.raises(SettingError, match="x,y,w,h"):
            parse_box(text)


def test_a_photo_becomes_labels(transformers, tmp_path: Path) -> None:
    """The whole path from a folder of photos, one of them damaged, with random tiny networks."""
    import json

    from PIL import Image

    from pchmr.cli import main

    photos = tmp_path / "photos"
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "a.png")
    (photos / "b.jpg").write_bytes(b"damaged")
    weights = script(tmp_path / "pose.pt2", SpotNetwork(17))
    depth = depth_anything(transformers, tmp_path / "depth", "relative")
    command = [
        "annotate", str(photos), "--output", str(tmp_path / "out"),
        "--keypoint-prior", "sapiens1-pose", "--keypoint-weights", str(weights),
        "--depth-prior", "depth-anything", "--depth-weights", str(depth),
    ]  # fmt: skip
    assert main(command) == 0
    rows = [
        json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    ]
    assert [row["clip"] for row in rows] == ["a", "b"] and "damaged" in rows[1]["failed"]
    assert rows[0]["provenance"]["keypoints"]["license"] == "CC-BY-NC-4.0"
    assert len(rows[0]["provenance"]["depth"]["sha256"]) == 64
    assert rows[0]["mode"] == "deposer-keypoint"
