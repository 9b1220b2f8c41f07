"""The app that the server runs for a run: its rounds, over whatever carries the messages."""

import os
from dataclasses import replace
from pathlib import Path
from typing import cast

from pchmr.config import FederateConfig, from_json
from pchmr.deploy.asking import MOST_ASKED, AskingGrid
from pchmr.deploy.federation import Federation, nodes_of, public_keys, roster_of
from pchmr.deploy.people import server_world
from pchmr.deploy.processes import PLACE
from pchmr.federated import FederatedResult, World, run_federated
from pchmr.federated.client import layout_of
from pchmr.federated.clip_gate import ClipGate
from pchmr.federated.flower.api import Context, Grid, ServerApp, wire_array
from pchmr.federated.flower.engines import Engine
from pchmr.federated.flower.server import Server
from pchmr.federated.moments import MomentSpec
from pchmr.federated.validation import Gate
from pchmr.models import HMRModel, save_checkpoint
from pchmr.runs import CONFIG, MODEL, SUMMARY, RunFolder, state_sha256

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs what `pchmr deploy run` has written down."""
    federation = Federation.open(Path(os.environ[PLACE]))
    folder = federation.path / "runs" / str(context.run_config["run"])
    serve_run(federation, RunFolder(folder), grid, resume=bool(context.run_config["resume"]))


def serve_run(
    federation: Federation, run: RunFolder, grid: Grid, *, resume: bool
) -> FederatedResult:
    """The rounds of a run that are left, and the model with its summary at the end."""
    config = from_json(FederateConfig, (run.path / CONFIG).read_text(encoding="utf-8"))
    devices = federation.devices
    world = server_world(config, roster_of(devices).fingerprint)
    engine = Engine(
        wire_array,
        lambda server, world, folder: _rounds(server, grid),
        public_keys=public_keys(devices),
        nodes=nodes_of(devices),
        absent=frozenset(c for device in devices if device.has_left for c in device.clients),
        name=run.path.name,
    )
    most = max(device.most_samples for device in devices)
    gate = gate_for(config, world, most)
    result = run_federated(replace(config, resume=resume), world, run, engine=engine, gate=gate)
    finish(run, config, world, result)
    return result


def _rounds(server: Server, grid: Grid) -> None:
    is_secure = server.config.privacy_options.is_secure
    server.run(AskingGrid(grid, most_asked=1 if is_secure else MOST_ASKED))


def gate_for(config: FederateConfig, world: World, most_samples: int) -> Gate:
    """The gate of a server that does not know how many samples its clients hold."""
    clip = config.privacy_options.dp_clip
    if clip is not None:
        return ClipGate.within(clip, most_samples)
    spec = layout_of(world.model, config)
    return Gate.of(
        config.optim_options,
        num_parameters=spec.num_parameters,
        max_samples=most_samples,
        local_epochs=config.local_epochs,
        moments=MomentSpec.of(spec, config),
    )


def finish(run: RunFolder, config: FederateConfig, world: World, result: FederatedResult) -> None:
    """Writes weights and, last, the summary that marks the run as finished."""
    known = result.guarantee
    run.write_with(MODEL, lambda path: save_checkpoint(path, cast(HMRModel, world.model), {}))
    summary = {
        "kind": "federated between machines",
        "rounds": len(result.rows),
        "model_sha256": state_sha256(world.model.state_dict()),
        "aggregation": config.privacy_options.aggregation,
        "epsilon": None if known is None else known.epsilon,
        "differential_privacy": None if known is None else known.plain(),
        "egress": result.egress,
        "bytes_up": result.bytes_up,
        "bytes_down": result.bytes_down,
        "roster": world.train_set.content_hash,
    }
    run.write_json(SUMMARY, summary)


__all__ = ["app", "serve_run"]
