"""Exported networks say what PyTorch says; a card tells the cost; failures leave no trace."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pchmr.body import BodyModel
from pchmr.cli import main
from pchmr.config import EXPORT_VARIANTS, DataOptions, ExportConfig, SettingError
from pchmr.device import export as export_room
from pchmr.device.export import CARD, advice, default_variant, export, file_name, open_trial
from pchmr.device.graph import INPUT, MeshGraph, export_model, output_names, polar_rotation
from pchmr.device.measured import Trial, joints_moved_mm
from pchmr.device.runtime import OnnxModel
from pchmr.device.variants import PRODUCTS
from pchmr.models import MODELS, HMRModel, build_model, xs
from pchmr.models.smpl_head import nearest_rotation
from pchmr.runs import file_sha256

pytestmark = pytest.mark.whole

SIZE = 64
TOLERANCE = 1e-5
FEW_BLOCKS = (0, 1, 1)
START = {"kind": "checkpoint", "name": "fastmetro_xs", "sha256": None}


def make_model(name: str, body: BodyModel, **more) -> HMRModel:
    """The network with few blocks in its backbone: graphs are written in half the time."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xs, "DEPTHS", FEW_BLOCKS)
        return build_model(name, body.hierarchy, image_size=SIZE, **more).eval()


@pytest.fixture(scope="module")
def model(tiny_body: BodyModel) -> HMRModel:
    return make_model("fastmetro_xs", tiny_body)


@pytest.fixture(scope="module")
def trial(tiny_body: BodyModel, make_people) -> Trial:
    people = make_people(tiny_body, 4, SIZE)
    return Trial(body=tiny_body, calibration=people, held_out=people, repeats=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model: HMRModel, trial: Trial) -> Path:
    folder = tmp_path_factory.mktemp("export")
    export(model, trial, EXPORT_VARIANTS, folder, START)
    return folder


@pytest.fixture
def no_build(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Copies the files that are already there in place of exporting again."""

    def build(model, trial, variants, staged):
        paths = {name: staged / file_name(name) for name in variants}
        for path in paths.values():
            path.write_bytes((folder / path.name).read_bytes())
        return paths

    monkeypatch.setattr(export_room, "build", build)


@torch.no_grad()
def distances(model: HMRModel, path: Path) -> dict[str, float]:
    """Largest difference of each output over two crops that the exporter did not see."""
    images = torch.rand(2, 3, model.image_size, model.image_size)
    found, wanted = OnnxModel(path)(images), model(images)
    assert tuple(found) == output_names(model)
    return {name: (found[name] - getattr(wanted, name)).abs().max().item() for name in found}


def test_fp32_equals_pytorch(model: HMRModel, folder: Path) -> None:
    apart = distances(model, folder / file_name("fp32"))
    assert max(apart.values()) <= TOLERANCE, apart


def test_fp32_of_tore_equals_pytorch(tiny_body: BodyModel, tmp_path: Path) -> None:
    model = make_model("tore_xs", tiny_body)
    export_model(model, tmp_path / "tore.onnx")
    apart = distances(model, tmp_path / "tore.onnx")
    assert max(apart.values()) <= TOLERANCE, apart


@pytest.mark.slow
@pytest.mark.parametrize("smpl_head", [False, True])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_exports(name: str, smpl_head: bool, body: BodyModel, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(name, body.hierarchy, smpl_head=smpl_head).eval()
    export_model(model, tmp_path / "model.onnx")
    apart = distances(model, tmp_path / "model.onnx")
    assert max(apart.values()) <= TOLERANCE, apart


@pytest.mark.parametrize("variant", ["fp16", "int8"])
def test_smaller_forms_are_smaller_and_near(model: HMRModel, folder: Path, variant: str) -> None:
    small, whole = ((folder / file_name(name)).stat().st_size for name in (variant, "fp32"))
    assert small < 0.75 * whole
    near = {"fp16": 0.05, "int8": 0.5}[variant]
    assert 0 < distances(model, folder / file_name(variant))["vertices"] < near


def test_graph_is_static_and_holds_the_constants(folder: Path) -> None:
    graph = onnx.load(folder / file_name("fp32")).graph
    (image,) = graph.input
    assert image.name == INPUT
    assert [d.dim_value for d in image.type.tensor_type.shape.dim] == [1, 3, SIZE, SIZE]
    names = " ".join(initializer.name for initializer in graph.initializer)
    first = "transformer_1.decoder.layers.0"
    assert f"{first}.multihead_attn" in names and f"{first}.self_attn" not in names


def test_files_are_portable_and_do_not_tell_where_the_code_was(folder: Path) -> None:
    for variant in EXPORT_VARIANTS:
        content = (folder / file_name(variant)).read_bytes()
        assert {opset.domain for opset in onnx.load_from_string(content).opset_import} == {""}
        for trace in (str(Path(__file__).parents[2]), "site-packages", "stack_trace", "pchmr/"):
            assert trace.encode() not in content


def test_coordinates_and_heat_maps_stay_in_float32(folder: Path) -> None:
    graph = onnx.load(folder / file_name("int8")).graph
    back = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    kinds = {n.name: back >= set(n.input[:2]) for n in graph.node if n.op_type in PRODUCTS}
    assert all(in_int8 for name, in_int8 in kinds.items() if name.startswith("backbone"))
    by_top = {name.split("/")[0] for name, in_int8 in kinds.items() if not in_int8}
    heads = ""  # the last layers run outside of a module, to escape automatic mixed precision
    assert {heads, "keypoint_head"} <= by_top
    assert not [name for name, in_int8 in kinds.items() if in_int8 and name.startswith("/")]


def test_sums_in_8_bits_are_rounded_once(folder: Path) -> None:
    graph = onnx.load(folder / file_name("int8")).graph
    made_by = {name: node for node in graph.node for name in node.output}
    rounded = {n.input[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    back = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    products = [n for n in graph.node if n.op_type in PRODUCTS and back >= set(n.input[:2])]
    assert {node.op_type for node in products} >= {"Conv", "Gemm"}
    assert not [n.name for n in products if n.op_type != "Conv" and n.output[0] in rounded]
    relus = [made_by[n.input[0]].op_type for n in graph.node if n.op_type == "Relu"]
    assert relus and "DequantizeLinear" not in relus


def test_card_describes_the_files(folder: Path, trial: Trial) -> None:
    card = json.loads((folder / CARD).read_text())
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [CARD, *(file_name(name) for name in EXPORT_VARIANTS)]
    )
    for name, about in card["variants"].items():
        path = folder / about["file"]
        assert path.name == file_name(name)
        assert about["sha256"] == file_sha256(path) and about["num_bytes"] == path.stat().st_size
        assert 0 < about["cpu_ms"]["min"] <= about["cpu_ms"]["median"]
        assert about["cost_mm"] == about["mpjpe_mm"] - card["pytorch"]["mpjpe_mm"]
    exact = card["variants"]["fp32"]
    assert exact["max_vertex_difference_m"] <= TOLERANCE and abs(exact["cost_mm"]) < 0.01
    assert card["body_sha256"] == trial.body.sha256 and card["started_from"] == START
    assert set(card["environment"]["export_packages"]) == {"onnx", "onnxruntime", "onnxscript"}


@pytest.mark.parametrize(
    ("costs", "is_trained", "default"),
    [
        ({"fp32": 0.0, "int8": 0.9}, True, "int8"),
        ({"fp32": 0.0, "int8": 1.1}, True, "fp32"),
        ({"fp16": 0.0, "int8": 1.1}, True, "fp16"),
        ({"int8": 1.1}, True, None),
        ({"fp32": 0.0, "int8": 0.0}, False, "fp32"),
        ({"fp32": None, "int8": None}, True, "fp32"),
    ],
)
def test_int8_is_the_default_only_where_it_costs_little(costs, is_trained, default) -> None:
    proven = {"joints_moved_p95_mm": 5.0, "max_vertex_difference_m": 1e-6}
    measured = {name: {"cost_mm": cost, **proven} for name, cost in costs.items()}
    assert default_variant(measured, is_trained=is_trained) == default


def test_a_missing_figure_proves_nothing() -> None:
    measured = {name: {"cost_mm": 0.0} for name in ("fp32", "fp16", "int8")}
    assert default_variant(measured, is_trained=True) == "fp16"
    card = {"default": "fp16", "started_from": {"kind": "shipped"}, "variants": measured}
    assert "does not say how far it moves joints" in advice(card)[-1]


@pytest.mark.parametrize(("moved", "default"), [(9.9, "int8"), (10.1, "fp32")])
def test_int8_that_moves_joints_is_no_default_and_told(moved: float, default: str) -> None:
    measured = {
        "fp32": {"cost_mm": 0.0, "max_vertex_difference_m": 1e-6},
        "int8": {"cost_mm": 0.2, "joints_moved_p95_mm": moved},
    }
    assert default_variant(measured, is_trained=True) == default
    card = {"default": default, "started_from": {"kind": "shipped"}, "variants": measured}
    lines = advice(card)
    assert len(lines) == (default != "int8")
    assert not lines or "moves joints by 10.1 mm" in lines[0]


def test_joints_that_move_are_measured_about_the_hips(tiny_body: BodyModel) -> None:
    reference = tiny_body.v_template.expand(20, -1, -1)
    assert joints_moved_mm(reference + 1.0, reference, tiny_body) < 1e-3
    grown = joints_moved_mm(1.1 * reference, reference, tiny_body)
    assert 20 < grown < 120


@pytest.mark.parametrize(
    ("cost", "kind", "default", "said"),
    [
        (0.4, "shipped", "int8", None),
        (1.76, "shipped", "fp32", "costs +1.76 mm MPJPE, more than 1 mm"),
        (1.76, "shipped", None, "export fp32 or fp16 too"),
        (0.0, "random", "fp32", "random weights says nothing"),
        (None, "shipped", "fp32", "an unknown error"),
    ],
)
def test_the_reason_against_int8_is_told(cost, kind, default, said) -> None:
    card = {
        "default": default,
        "started_from": {"kind": kind},
        "variants": {"int8": {"cost_mm": cost}},
    }
    lines = advice(card)
    assert len(lines) == (0 if said is None else 1)
    assert said is None or said in lines[0]


@pytest.mark.parametrize(("apart", "default"), [(9e-6, "fp32"), (1.1e-5, "fp16"), (0.5, "fp16")])
def test_fp32_that_is_off_is_told_and_no_default(apart: float, default: str) -> None:
    forms = {"fp32": apart, "fp16": 3e-3}
    measured = {
        name: {"cost_mm": 0.0, "max_vertex_difference_m": value} for name, value in forms.items()
    }
    found = default_variant(measured, is_trained=True)
    assert found == default
    lines = advice({"default": found, "started_from": {"kind": "shipped"}, "variants": measured})
    assert len(lines) == (default != "fp32")
    assert not lines or "from PyTorch, more than 0.01 mm" in lines[0]


def test_the_default_rests_on_hundreds_of_people() -> None:
    assert ExportConfig().num_held_out >= 400


@pytest.mark.usefixtures("no_build")
def test_forms_of_an_earlier_export_go(model: HMRModel, trial: Trial, tmp_path: Path) -> None:
    (tmp_path / file_name("int8")).touch()
    (tmp_path / "notes.txt").touch()
    card = export(model, trial, ("fp32",), tmp_path, START)
    assert set(card["variants"]) == {"fp32"} and card["default"] == "fp32"
    assert sorted(p.name for p in tmp_path.iterdir()) == [CARD, file_name("fp32"), "notes.txt"]


@pytest.mark.usefixtures("no_build")
@pytest.mark.parametrize("unit", [None, "AMX"])
def test_bf16_is_measured_where_the_processor_has_it(
    unit: str | None,
    model: HMRModel,
    trial: Trial,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(export_room, "bf16_unit", lambda: unit)
    card = export(model, trial, ("fp32",), tmp_path, START)
    assert (card["pytorch_bf16"] is None) == (unit is None)
    assert ("neither AMX nor AVX-512 BF16" in capsys.readouterr().err) == (unit is None)


@pytest.mark.usefixtures("no_build")
@pytest.mark.parametrize("broken", ["make_card", "shutil.copyfile"])
def test_a_failure_changes_nothing(
    broken: str, model: HMRModel, trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CARD).write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"pchmr.device.export.{broken}", full)
    with pytest.raises((SettingError, OSError), match="No space left on device"):
        export(model, trial, ("fp32",), tmp_path, START)
    assert [p.name for p in tmp_path.iterdir()] == [CARD]
    assert (tmp_path / CARD).read_text() == "old"


def test_calibration_sees_training_people_only(
    tiny_body: BodyModel, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(options: DataOptions, split: str, **_: object):
        asked.append((options.domain, split, options.num_samples, options.num_test_samples))
        return trial.held_out

    monkeypatch.setattr(export_room, "load_people", load)
    open_trial(ExportConfig(num_calibration=3, num_held_out=2), tiny_body, SIZE)
    assert asked == [("A", "train", 3, 2), ("A", "test", 3, 2)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--variants", "fp32,int4"], "unknown --variants int4; known: fp32, fp16, int8"),
        (["--variants", ","], "--variants is empty"),
        (["--checkpoint", "gone.safetensors"], "gone.safetensors not found"),
        (["--repeats", "0"], "--repeats must be at least 1"),
    ],
)
def test_bad_settings_are_one_line(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--output", str(tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_output_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(SettingError, match="is a file; give a folder"):
        export_room.run(ExportConfig(output=tmp_path / "out"))


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(export_room, "EXTRA", ("onnx", "no_such_package"))
    with pytest.raises(SettingError, match=r"needs no_such_package: .*pchmr\[export\]"):
        export_room.run(ExportConfig(output=tmp_path / "out"))


def test_damaged_file_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(SettingError, match="not found; run `pchmr export`"):
        OnnxModel(path)
    path.write_bytes((folder / file_name("fp32")).read_bytes()[:1000])
    with pytest.raises(SettingError, match=r"cannot run .*; export it again") as error:
        OnnxModel(path)
    assert "\n" not in str(error.value)


@torch.no_grad()
def test_smpl_head_of_the_graph_equals_the_model(tiny_body: BodyModel) -> None:
    model = make_model("tore_xs", tiny_body, smpl_head=True)
    image = torch.rand(1, 3, SIZE, SIZE)
    found, wanted = MeshGraph(model)(image), model(image)
    assert model.smpl_parameter_regressor is not None
    for name, value in zip(output_names(model), found, strict=True):
        assert torch.allclose(value, getattr(wanted, name), atol=TOLERANCE), name


def test_rotations_without_svd() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(200, 3, 3, generator=generator)
    determinants = torch.linalg.det(matrices)
    assert (determinants < 0).any() and (determinants > 0).any()
    matrices = matrices[determinants.abs() > 0.1] * torch.tensor(1e3)
    found, wanted = polar_rotation(matrices), nearest_rotation(matrices)
    assert np.allclose(found, wanted, atol=TOLERANCE)
