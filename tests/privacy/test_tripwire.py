"""A clean run lets no canary out, and every planted leak is caught."""

import base64
import gzip
import json
import logging
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toy import ToyPeople, config_of, folder, world_of

from pchmr.config import PrivacyOptions
from pchmr.federated import Engine, run_federated
from pchmr.federated.flower.api import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MetricRecord,
    SharedArray,
    new_context,
    wire_array,
)
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.flower.engines import RUN_ID
from pchmr.federated.flower.grid import InProcessGrid
from pchmr.federated.flower.residence import Residence
from pchmr.federated.flower.server_app import make_server_app
from pchmr.privacy.tripwire import Canary, Tripwire, encodings

RANDOM = np.random.default_rng(20)
PATCH = RANDOM.integers(0, 256, (16, 16, 3), dtype=np.uint8)
KEYPOINTS, BETAS = RANDOM.normal(size=(14, 2)), ToyPeople().values[0][:3]
MARKER = "IMG-q7Zx2wVb9KpL4tYs8RmD1cHf6.jpg"
ROWS, IMAGE_DESCRIPTION = 30, 0x010E
log = logging.getLogger("pchmr.federated.client")


@lru_cache
def wire() -> Tripwire:
    return Tripwire(
        [
            Canary("picture", PATCH),
            Canary("keypoints", KEYPOINTS),
            Canary("betas", BETAS),
            Canary("name", MARKER),
        ]
    )


def write_people(place: Path, count: int) -> None:
    """Pictures that hold the patch, with the marker as name and in EXIF, and labels beside them."""
    place.mkdir()
    described = Image.Exif()
    described[IMAGE_DESCRIPTION] = MARKER
    for row in range(count):
        picture = np.full((32, 32, 3), row, dtype=np.uint8)
        picture[8:24, 8:24] = PATCH
        Image.fromarray(picture).save(place / f"{row:03d}-{MARKER}.png", exif=described)
    x, y = ToyPeople(num_rows=count).values
    keypoints = np.concatenate([KEYPOINTS, np.ones((14, 1))], axis=1)
    np.savez(place / "labels.npz", x=x, y=y, keypoints=np.repeat(keypoints[None], count, 0))


@dataclass(frozen=True)
class MarkedPeople(ToyPeople):
    """A folder of such pictures, read as a data set reads its files."""

    place: Path = Path()

    @property
    def files(self) -> list[Path]:
        return sorted(self.place.glob("*.png"))

    @property
    def columns(self) -> dict[str, np.ndarray]:
        return {"name": np.array([path.name for path in self.files])}

    @property
    def values(self) -> tuple[np.ndarray, np.ndarray]:
        with np.load(self.place / "labels.npz") as labels:
            return labels["x"], labels["y"]

    def batch(self, indices: Any) -> Any:
        rows, sample = np.asarray(indices), super().batch(indices)
        pictures = np.stack([np.asarray(Image.open(self.files[row])) for row in rows])
        with np.load(self.place / "labels.npz") as labels:
            keypoints = torch.from_numpy(labels["keypoints"][rows]).float()
        images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
        return replace(sample, images=images, keypoints_2d=keypoints)


Leak = Callable[[Message, Path], None]


def _add(name: str, record: Any) -> Leak:
    return lambda reply, path: reply.content.__setitem__(name, record)


def _metrics(reply: Message, path: Path) -> None:
    reply.content["metrics"] = MetricRecord({"loss": BETAS.astype(float).ravel().tolist()})


def _appended(reply: Message, path: Path) -> None:
    delta = reply.content["update"]["delta"].numpy()
    reply.content["update"]["delta"] = wire_array(
        np.concatenate([delta, (PATCH / 255).astype(np.float32).ravel()])
    )


def _low_bits(reply: Message, path: Path) -> None:
    delta = reply.content["update"]["delta"].numpy().copy()
    halves = delta.view(np.uint16)[::2]
    hidden = (PATCH / 255).astype(np.float16).ravel().view(np.uint16)[: len(halves)]
    halves[: len(hidden)] = hidden
    reply.content["update"]["delta"] = wire_array(delta)


def _tensor_name(reply: Message, path: Path) -> None:
    record = ArrayRecord()
    record[MARKER] = Array("float32", (0,), "numpy.ndarray", b"")
    reply.content["more"] = record


def _exception(reply: Message, path: Path) -> None:
    reply.__dict__["_content"] = None
    reply.__dict__["_error"] = Error(2, f"cannot read clients/4/{MARKER}")


def _in_checkpoint(reply: Message, path: Path) -> None:
    (path / "checkpoints").mkdir(exist_ok=True)
    (path / "checkpoints" / "exif.json").write_text(json.dumps({"ImageDescription": MARKER}))


def _temporary(reply: Message, path: Path) -> None:
    with tempfile.NamedTemporaryFile(suffix=".npy", delete=False) as file:
        file.write(PATCH.tobytes())


LEAKS: dict[str, Leak] = {
    "picture in a temporary file": _temporary,
    "picture as bytes": _add("picture", ConfigRecord({"data": PATCH.tobytes()})),
    "betas in metrics": _metrics,
    "file name in a log": lambda reply, path: log.warning("cannot read %s", MARKER),
    "pixels appended to a tensor": _appended,
    "pixels in low bits": _low_bits,
    "base64 in a config": _add(
        "c", ConfigRecord({"x": "ab" + base64.b64encode(PATCH.tobytes()).decode()})
    ),
    "zlib": _add("z", ConfigRecord({"x": zlib.compress(PATCH.tobytes())})),
    "gzip of keypoints in base64": _add(
        "g", ConfigRecord({"x": gzip.compress(base64.b64encode(KEYPOINTS.tobytes()))})
    ),
    "path in an exception": _exception,
    "EXIF in a checkpoint": _in_checkpoint,
    "name of a tensor": _tensor_name,
    "record of keypoints": _add("k", MetricRecord({"k": KEYPOINTS.ravel().tolist()})),
    "keypoints printed": lambda reply, path: print(json.dumps(KEYPOINTS.tolist())),
    "hexadecimal labels": _add(
        "h", ConfigRecord({"x": KEYPOINTS.astype(np.float16).tobytes().hex()})
    ),
}


def bytes_of(message: Message) -> bytes:
    from flwr.common.serde import recorddict_to_proto

    if message.has_error():
        return str(message.error.reason).encode()
    return recorddict_to_proto(message.content).SerializeToString()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where everything that runs writes temporary files."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return place


def watched(path: Path, leak: Leak | None, secure: bool) -> set[str]:
    """What is found in all that leaves the clients of a tiny run, logs and printing aside."""
    found: set[str] = set()
    run = path / "run"

    def search_files(place: Path, leave_out: str = "") -> None:
        for hits in wire().search_files(place, leave_out=leave_out).values():
            found.update(hits)
        for name in place.rglob("*"):
            found.update(wire().search(str(name).encode()))

    class Tap(InProcessGrid):
        def _deliver(self, message: Message) -> Message:
            found.update(wire().search(bytes_of(message)))
            reply = super()._deliver(message)
            if leak is not None and message.metadata.dst_node_id == 2:
                leak(reply, run)
            found.update(wire().search(bytes_of(reply)))
            search_files(Path(tempfile.gettempdir()))
            return reply

    def carry_out(server, world, states) -> None:
        app = make_client_app(Residence(world, states), SharedArray)
        make_server_app(server)(Tap(app, config.num_clients, RUN_ID), new_context(RUN_ID, 0))

    options = PrivacyOptions(aggregation="secure" if secure else "plain")
    size = 5 if secure else 2
    start = {"num_clients": size, "clients_per_round": size, "num_rounds": 1}
    config = config_of(privacy_options=options, **start)
    write_people(path / "people", ROWS)
    world = world_of(config, people=MarkedPeople(num_rows=ROWS, place=path / "people"))
    run_federated(config, world, folder(run), engine=Engine(SharedArray, carry_out))
    search_files(run, leave_out="clients")
    return found


def test_the_people_hold_every_canary_and_the_search_finds_each(tmp_path: Path) -> None:
    """Else a clean run would be clean of what never was there."""
    write_people(tmp_path / "people", ROWS)
    people = MarkedPeople(num_rows=ROWS, place=tmp_path / "people")
    sample, path = people.batch([0, 1, 2]), people.files[0]
    patch = np.ascontiguousarray(sample.images[0, :, 8:24, 8:24].numpy())
    places = {
        "picture": patch.tobytes(),
        "keypoints": sample.keypoints_2d[0, :, :2].contiguous().numpy().tobytes(),
        "betas": sample.betas.numpy().tobytes(),
        "name": str(people.columns["name"][0]).encode(),
    }
    for name, data in places.items():
        assert any(hit.startswith(name) for hit in wire().search(data)), name
    assert any(hit.startswith("name") for hit in wire().search(path.read_bytes()))  # EXIF
    hits = wire().search((tmp_path / "people" / "labels.npz").read_bytes())
    assert any(hit.startswith("betas") for hit in hits)


def test_there_are_enough_encodings() -> None:
    assert len({name.split(", ", 1)[1] for name in wire()._names}) >= 25


@pytest.mark.parametrize("secure", [False, True])
def test_a_clean_run_has_no_hit(secure, tmp_path, capfd, caplog) -> None:
    assert watched(tmp_path, None, secure) == set()
    said = "".join(capfd.readouterr()) + caplog.text
    assert wire().search(said.encode()) == set()
    noise = np.random.default_rng(0).bytes(1 << 20)
    assert wire().search(noise) == set()


@pytest.mark.parametrize("name", sorted(LEAKS))
def test_a_planted_leak_is_caught(name, tmp_path, capfd, caplog) -> None:
    found = watched(tmp_path, LEAKS[name], secure=False)
    said = "".join(capfd.readouterr()) + caplog.text
    assert found | wire().search(said.encode())


def test_every_encoding_is_found_at_any_offset() -> None:
    canaries = Canary("picture", PATCH), Canary("keypoints", KEYPOINTS), Canary("name", MARKER)
    for canary in canaries:
        for name, needles in encodings(canary).items():
            for shift, needle in enumerate(needles):
                assert wire().search(bytes(5 + shift) + needle + bytes(9)), name
