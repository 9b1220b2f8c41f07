"""Where to compute: the device, and several training processes started by `torchrun`.

With one process every function on gradients is the identity. Rank 0 alone writes files.
"""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from pchmr.config import SettingError, require

WATCH_SECONDS = 2.0
LONGEST_WAIT = timedelta(hours=12)  # rank 0 renders and evaluates while the others wait


def pick_device(name: str) -> torch.device:
    """The device asked for; `auto` takes CUDA where there is one.

    Raises:
        SettingError: CUDA was asked for and is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError("--device cuda: no CUDA device is visible; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def end_with_parent(parent: int) -> None:
    """Ends this worker process soon after the one that started it, however that one ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def rank() -> int:
    """Number of this process, 0 without a group."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Processes in the group, 1 without one."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Joins the group that `torchrun` describes in the environment, if any, and leaves it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_cuda else "gloo", timeout=LONGEST_WAIT)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def first_alone() -> Iterator[None]:
    """Rank 0 runs the block before all others do, so that one process renders and writes."""
    if rank():
        dist.barrier()
    yield
    if count() > 1 and not rank():
        dist.barrier()


def compiled(model: nn.Module, device: torch.device) -> None:
    """Lets `torch.compile` build what calls of the model run; weights and names stay.

    Raises:
        SettingError: On a processor, where there is no C++ compiler to build with.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    require(
        device.type == "cuda" or compiler is not None,
        "--compile needs a C++ compiler (g++) on a processor: install one or leave it out",
    )
    model.compile()


def average_gradients(model: nn.Module, weight: float) -> None:
    """Replaces each gradient by the weighted mean over the processes, in one exchange.

    With losses that are means over the images of a batch, that is the gradient of one process with
    all the images. A parameter that nothing reached on any process keeps None, so that no optimizer
    moves it.

    Args:
        model: Network whose gradients are there, or None where nothing reached a parameter.
        weight: Images this process saw in the step; 0 where it had none left.
    """
    if count() == 1:
        return
    trained = [p for p in model.parameters() if p.requires_grad]
    parts = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained]
    reached = parts[0].new_tensor([float(p.grad is not None) for p in trained])
    flat = torch.cat([*(part * weight for part in parts), reached, reached.new_tensor([weight])])
    dist.all_reduce(flat)
    *sums, reached, total = flat.split([*(p.numel() for p in trained), len(trained), 1])
    for parameter, part, anywhere in zip(trained, sums, reached.tolist(), strict=True):
        parameter.grad = (part / total).view_as(parameter) if anywhere else None


def share_buffers(model: nn.Module) -> None:
    """Gives every process the running statistics of rank 0."""
    if count() == 1:
        return
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
