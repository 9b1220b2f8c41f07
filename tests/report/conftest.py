"""A run folder as the verbs write it, with made up numbers; makes `crowd` importable."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pchmr.config import DataOptions, FederateConfig, TrainConfig
from pchmr.runs import RunFolder

sys.path.insert(0, str(Path(__file__).parent))


def scores(mpjpe_mm: float) -> dict[str, float]:
    return {"mpjpe_mm": mpjpe_mm, "pa_mpjpe_mm": mpjpe_mm / 2, "mpvpe_mm": mpjpe_mm + 10}


def summary(kind: str, after: float, **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "before": scores(192.34),
        "after": scores(after),
        "baselines": {"mean_pose": scores(301.25), "t_pose": scores(402.5)},
        "started_from": {"name": "fastmetro_xs", "kind": "shipped", "sha256": "ab" * 32},
        "model_sha256": "cd" * 32,
        "test_set_sha256": "ef" * 32,
        "num_test_samples": 320,
        "seconds": 75.0,
        "bytes_up": 2_500_000,
        "bytes_down": 0,
        "egress": {"leaves_client": f"{kind} <things>", "server_sees": "sums & counts"},
        "recipe": {"version": 1, "worlds": {"B": "b" * 64}},
        **more,
    }


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder: name, kind, the score of every round, and changes to the summary."""

    def make(
        name: str = "federated",
        kind: str = "federated",
        rounds: tuple[float, ...] = (170.0, 160.5),
        finished: bool = True,
        seed: int = 0,
        **more: Any,
    ) -> Path:
        data = DataOptions(num_samples=500)
        if kind == "federated":
            config: Any = FederateConfig(seed=seed, num_rounds=4, data_options=data)
        else:
            config = TrainConfig(seed=seed, num_epochs=4, data_options=data)
        run = RunFolder.create(tmp_path / name, config)
        nothing = {"leaves_client": "nothing", "server_sees": "no one"}
        start = {"before": scores(192.34), "before_egress": nothing}
        run.write_json("start.json", start)
        for place, value in enumerate(rounds, start=1):
            run.append_row({"round": place, **scores(value)})
        if finished:
            run.write_json("summary.json", summary(kind, rounds[-1], **more))
        return run.path

    return make
