"""Runs an exported network with onnxruntime, on one thread or on as many as are fastest here."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.config import SettingError

PROVIDERS = ["CPUExecutionProvider"]
ONLY_ERRORS = 3
MOST_THREADS, TRIALS = 4, 5
SLOW_FUSIONS = ["SkipLayerNormFusion"]
"""What onnxruntime 1.32 runs slower fused than apart: this one in scalar code, 2 ms of FM-S."""


class OnnxModel:
    """An exported network: crops in, tensors by name out; the graph is made for one crop."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Loads a file.

        Args:
            path: Of the ONNX file.
            threads: That share the work of one crop.

        Raises:
            SettingError: The file is missing, truncated or of another kind.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = ONLY_ERRORS
        if not path.is_file():
            raise SettingError(f"exported network {path} not found; run `pchmr export` first")
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=PROVIDERS, disabled_optimizers=SLOW_FUSIONS
            )
        except Exception as error:  # the runtime's own classes share no other base
            reason = str(error).splitlines()[0]
            raise SettingError(f"cannot run {path}: {reason}; export it again") from error
        entry = self._session.get_inputs()[0]
        self.input_name, self.shape, self.threads = entry.name, tuple(entry.shape), threads
        self.names = tuple(output.name for output in self._session.get_outputs())

    def raw(self, image: Float[np.ndarray, "1 3 height width"]) -> list[Any]:
        """The outputs for one crop, as the runtime returns them."""
        return list(self._session.run(None, {self.input_name: image}))

    def __call__(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """The outputs for RGB crops in [0, 1], one after the other, batch axis first."""
        rows = [self.raw(image[None].cpu().numpy()) for image in images]
        return {
            name: torch.from_numpy(np.concatenate(parts))
            for name, parts in zip(self.names, zip(*rows, strict=True), strict=True)
        }


def fastest_model(path: Path) -> tuple[OnnxModel, dict[int, float]]:
    """A network on the number of threads that is fastest here, now.

    Returns:
        The network, and the least wall-clock milliseconds of a crop by number of threads.
    """
    cores = os.cpu_count() or 1
    choices = sorted({1, min(2, cores), min(MOST_THREADS, cores)})
    models = {threads: OnnxModel(path, threads) for threads in choices}
    image = np.full(next(iter(models.values())).shape, 0.5, dtype=np.float32)
    spent = {threads: _milliseconds(model, image) for threads, model in models.items()}
    return models[min(spent, key=lambda threads: spent[threads])], spent


def _milliseconds(model: OnnxModel, image: Float[np.ndarray, "1 3 height width"]) -> float:
    """Least wall-clock time of a few runs after the first."""
    model.raw(image)
    times = []
    for _ in range(TRIALS):
        began = time.perf_counter()
        model.raw(image)
        times.append(1e3 * (time.perf_counter() - began))
    return min(times)
