"""Several processes take one step together: the same weights as one process with all the rows."""

import multiprocessing
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from pchmr import compute
from pchmr.config import OptimOptions, SettingError, TrainConfig
from pchmr.models import build_model
from pchmr.runs import RunFolder
from pchmr.training import fit

OPTIONS = OptimOptions(batch_size=3, learning_rate=1e-3, augment=False, weight_decay=1.0)


def config(**changes) -> TrainConfig:
    """Two epochs, the first of the keypoint head alone: decay must leave the rest as it is."""
    return TrainConfig(num_epochs=2, keypoint_epochs=1, optim_options=replace(OPTIONS, **changes))


def new_model(body):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model("fastmetro_xs", body.hierarchy, image_size=64)


def one_of_two(rank, body, people, folder):
    """What each process does; rank 0 alone writes into the folder."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    run = RunFolder(folder)
    if rank == 0:
        RunFolder.create(folder, config())
    model = new_model(body)
    with compute.first_alone():
        (folder / f"turn-{rank}").write_text(f"{(folder / 'turn-0').exists()}")
    fit(model, body, people, config(), run=run, evaluate_fn=lambda _: {"mpjpe_mm": float(rank)})
    save_file(model.state_dict(), folder / f"rank-{rank}.safetensors")
    dist.destroy_process_group()


@pytest.mark.whole
def test_two_processes_train_like_one(tiny_body, make_people, tmp_path):
    people = make_people(tiny_body, count=14, size=64)  # the last step: one row on each, then none
    context = multiprocessing.get_context("forkserver")  # this process may have trained before
    both = [
        context.Process(target=one_of_two, args=(rank, tiny_body, people, tmp_path))
        for rank in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    alone = new_model(tiny_body)
    rows = fit(alone, tiny_body, people, config(batch_size=6))
    first, second = (load_file(tmp_path / f"rank-{rank}.safetensors") for rank in range(2))
    apart = []
    for name, weight in alone.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        apart.append((first[name] - weight).abs().flatten())
    # Keys' biases have no gradient but rounding, which AdamW scales up to whole steps.
    assert (torch.cat(apart) > 2e-5).float().mean() < 1e-3
    written = RunFolder(tmp_path).read_rows()
    assert [row["mpjpe_mm"] for row in written] == [0.0, 0.0]
    assert [row["num_samples"] for row in written] == [row["num_samples"] for row in rows]
    assert all(row["images_per_second"] > 0 for row in written)
    assert (tmp_path / "turn-1").read_text() == "True"


def test_one_process_needs_no_group(tiny_body, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with compute.joined(torch.device("cpu")), compute.first_alone():
        assert (compute.rank(), compute.count()) == (0, 1)
    assert not dist.is_initialized()


def test_an_absent_device_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingError, match="--device cuda"):
        compute.pick_device("cuda")


def test_compiling_needs_a_compiler(tiny_body, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(SettingError, match=r"--compile needs a C\+\+ compiler"):
        compute.compiled(new_model(tiny_body), torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fastmetro_xs", "tore_xs"])
def test_a_compiled_model_trains_alike(name, tiny_body):
    torch.manual_seed(0)
    model = build_model(name, tiny_body.hierarchy, image_size=64).train()
    keys, images = list(model.state_dict()), torch.rand(2, 3, 64, 64)

    def gradient():
        model.zero_grad()
        output = model(images)
        output.vertices.square().mean().backward()
        return output.vertices.detach(), model.vertex_token_embed.weight.grad.clone()

    wanted = gradient()
    model.compile(backend="aot_eager")
    for found, value in zip(gradient(), wanted, strict=True):
        assert torch.allclose(found, value, atol=1e-5)
    assert list(model.state_dict()) == keys
