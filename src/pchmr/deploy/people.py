"""The people of a device, and the network that it builds: everything that a client stands on.

The network is built from the settings and what is installed, never from a file that the server
names; its weights come with every task.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pchmr import compute
from pchmr.body import load_body
from pchmr.config import DataOptions, FederateConfig, require
from pchmr.data import load_people
from pchmr.data.sample import PeopleDataset, Sample
from pchmr.deploy.device import DeviceFolder
from pchmr.federated import World
from pchmr.federated.client import Worker, layout_of
from pchmr.federated.trainable import part_that_trains
from pchmr.models import load_model


class NoPeople:
    """The data set of a server, which has none; its hash is that of the clients' roster."""

    is_private = False
    origin = None
    columns: dict[str, np.ndarray] = {}  # noqa: RUF012

    def __init__(self, roster: bytes, image_size: int) -> None:
        self.content_hash = hashlib.sha256(roster).hexdigest()
        self.image_size = image_size

    def __len__(self) -> int:
        return 0

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """There is nobody to see."""
        raise IndexError("a server holds no people")


def server_world(config: FederateConfig, roster: bytes) -> World:
    """The network, and as many clients as there are, whose people are elsewhere."""
    world = _world(config)
    world.train_set = NoPeople(roster, world.train_set.image_size)
    world.partitions = [np.empty(0, dtype=np.int64) for _ in range(config.num_clients)]
    return world


def _world(config: FederateConfig) -> World:
    body = load_body().to(compute.pick_device(config.device))
    model, _ = load_model(
        config.model_options,
        body.hierarchy,
        seed=config.seed,
        image_size=config.data_options.image_size,
    )
    model.to(body.v_template.device)
    return World(model, body, NoPeople(b"", model.image_size), [])


def device_world(config: FederateConfig, data: Path, clients: tuple[int, ...]) -> World:
    """The network and the device's people, dealt to the logical clients that it plays.

    Raises:
        UserError: The folder holds no people, or fewer than there are clients.
    """
    check_settings(config)
    world = _world(config)
    people = load_people(
        DataOptions(data=data, image_size=config.data_options.image_size),
        "train",
        body=world.body,
        seed=config.seed,
        image_size=world.train_set.image_size,
    )
    world.train_set, world.partitions = people, deal(people, clients)
    return world


@contextmanager
def device_worker(config: FederateConfig, folder: DeviceFolder) -> Iterator[Worker]:
    """What trains on a device; trainable is what the settings say as long as it is entered."""
    about = folder.about
    world = device_world(config, Path(about.data), about.clients)
    with part_that_trains(config, world.model):
        yield Worker(world, config, folder.path, folder.kept)


def fingerprint_of(config: FederateConfig, world: World) -> str:
    """Of the layout that clients and server must share."""
    with part_that_trains(config, world.model):
        return layout_of(world.model, config).fingerprint


def deal(people: PeopleDataset, clients: tuple[int, ...]) -> list[np.ndarray]:
    """Rows by logical client: runs of the device's rows for its own clients, none for others.

    Raises:
        SettingError: There are fewer people than clients.
    """
    require(
        len(people) >= len(clients),
        f"the device plays {len(clients)} clients and holds {len(people)} pictures: every client "
        "needs one",
    )
    rows = np.array_split(np.arange(len(people)), len(clients))
    dealt = [np.empty(0, dtype=np.int64) for _ in range(max(clients) + 1)]
    for client, own in zip(clients, rows, strict=True):
        dealt[client] = own
    return dealt


def check_settings(config: FederateConfig) -> None:
    """Refuses settings that name files: those are another machine's.

    Raises:
        SettingError: They do.
    """
    model = config.model_options
    named = (model.checkpoint, model.body, model.backbone_weights, config.data_options.data)
    require(not any(named), "the server's settings name files of its own")
