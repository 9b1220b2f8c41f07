"""One row of a comparison: a run, and what its settings are chosen by.

How runs are compared is in `docs/comparison.md`.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

from pchmr.config import (
    DataOptions,
    EvaluateConfig,
    FederateConfig,
    ModelOptions,
    PrivacyOptions,
    ServerOptions,
    TrainConfig,
)
from pchmr.recipes.cells import (
    Cell,
    LadderRun,
    Run,
    Rung,
    Scale,
    ServerChanges,
    fixed,
)

BEFORE, CENTRALIZED = "before", "centralized"


class _Common(TypedDict):
    """Settings that every run has."""

    seed: int
    data_options: DataOptions
    model_options: ModelOptions


@dataclass(frozen=True)
class Rows:
    """Makes the cells of one network and seed.

    Attributes:
        scale: Size of the runs.
        model: Name of the network.
        seed: Of the runs.
        tuning_scale: Size of the runs that settings are chosen by, where it is another.
    """

    scale: Scale
    model: str
    seed: int
    tuning_scale: Scale | None = None

    @property
    def first(self) -> "Rows":
        """The network, seed and size that settings are chosen with."""
        return Rows(self.tuning_scale or self.scale, self.scale.models[0], 0)

    def longer(self, times: int, *, tuned_anew: bool = False) -> "Rows":
        """Runs on so many times the images, with the settings of the shorter ones or their own."""
        scale = replace(self.scale, num_seen=times * self.scale.num_seen)
        return replace(self, scale=scale, tuning_scale=None if tuned_anew else self.scale)

    def _common(self, from_scratch: bool) -> _Common:
        random = ModelOptions(model=self.model, from_scratch=True)
        start = random if from_scratch else self.scale.start(self.model)
        return {"seed": self.seed, "data_options": self.scale.data, "model_options": start}

    def _cell(self, id_: str, name: str, base: Run, tuned_on: Run, **more: Any) -> Cell:
        paper = PAPER.get((self.model.split("_")[0], id_))
        rates = self.scale.learning_rates
        return Cell(
            id=id_, name=name, base=base, tuned_on=tuned_on, rates=rates, paper=paper, **more
        )

    def before(self) -> Cell:
        """The start weights as they are."""
        run = EvaluateConfig(**replace(self, seed=0)._common(from_scratch=False))
        return Cell(id=BEFORE, name="before", base=run, tuned_on=run)

    def centralized(
        self, id_: str = CENTRALIZED, name: str = "centralized", *, from_scratch: bool = False
    ) -> Cell:
        """Every image in one place; the learning rate is chosen from the start weights."""
        return self._cell(id_, name, self._central(from_scratch), self.first._central(False))

    def centralized_from_scratch(self) -> Cell:
        """The same from random weights."""
        name = "centralized, random start"
        return self.centralized("centralized-random-start", name, from_scratch=True)

    def centralized_on(self, num_samples: int) -> Cell:
        """As many epochs on fewer images."""
        data = replace(self.scale.data, num_samples=num_samples)
        epochs = self.scale.num_seen // self.scale.data.num_samples
        scale = replace(self.scale, data=data, num_seen=epochs * num_samples)
        few = replace(self, scale=scale)
        id_, name = f"centralized-{num_samples}-images", f"centralized, {num_samples} images"
        return self._cell(id_, name, few._central(False), self.first._central(False))

    def centralized_part(self, what: str) -> Cell:
        """A part of the network trains in one place: on one client that holds every image."""
        only = {"trainable": what, "client_state": "keep"}
        id_, name = f"{what}-trains-{CENTRALIZED}", f"{what} trains, centralized"
        cell = self.federated(id_, name, 1, servers=(only,))
        return replace(cell, tuned_on=fixed(cell.tuned_on, 0.0, only))

    def _central(self, from_scratch: bool) -> TrainConfig:
        first = self.scale.keypoint_epochs
        return TrainConfig(
            num_epochs=first + self.scale.num_seen // self.scale.data.num_samples,
            keypoint_epochs=first,
            schedule="cosine",
            optim_options=self.scale.optim,
            **self._common(from_scratch),
        )

    def federated(
        self,
        id_: str,
        name: str,
        num_clients: int,
        *,
        from_scratch: bool = False,
        servers: tuple[ServerChanges, ...] = ({},),
        contest: str | None = None,
        **changes: Any,
    ) -> Cell:
        """Ten clients a round; the learning rate is that of FedAvg on iid clients (`TUNED_ON`).

        Args:
            id_: Of the row.
            name: Of the row, for people.
            num_clients: In total.
            from_scratch: Random weights in place of the start weights.
            servers: Server options to choose from.
            contest: See `Cell`.
            changes: Other settings of the run.
        """
        base = self._rounds(num_clients, from_scratch, **changes)
        tuned_on = self.first._rounds(TUNED_ON.get(num_clients, num_clients), False)
        like = self.first._rounds(num_clients, False, **changes)
        return self._cell(id_, name, base, tuned_on, servers=servers, like=like, contest=contest)

    def iid(self, num_clients: int) -> Cell:
        """FedAvg on clients whose images were dealt at random."""
        id_ = of_clients(num_clients)
        return self.federated(id_, f"10 of {num_clients} clients", num_clients, contest=id_)

    def with_state(
        self, num_clients: int, state: str = "average", *, tuned_anew: bool = False
    ) -> Cell:
        """FedAvg whose clients' optimizers go on from the cohort's state, or from their own.

        The learning rate is that of clients that begin anew, or one that is chosen for these.
        """
        contest, only = of_clients(num_clients), {"client_state": state}
        made = self.federated(
            state_of(num_clients, state),
            f"10 of {num_clients} clients, state {STATES[state]}",
            num_clients,
            servers=(only,),
            contest=contest,
        )
        return replace(made, tuned_on=fixed(made.tuned_on, 0.0, only)) if tuned_anew else made

    def rung(self, name: Rung) -> Cell:
        """A control of ten clients (`bench.ladder`).

        One that takes a client's steps alone has the learning rate of FedAvg, one that takes as
        many as centralized training that of centralized training; the one between has its own.
        """
        base = self._as_rung(name)
        tuned_on: Run = self.first._as_rung(name)
        if name == "sequential":
            tuned_on = self.first._central(False)
        if name == "redealt":
            tuned_on = self.first._rounds(PER_ROUND, False)
        return self._cell(control_of(name), RUNGS[name], base, tuned_on)

    def _as_rung(self, name: Rung) -> LadderRun:
        plain = self._rounds(PER_ROUND, False)
        settings = {f.name: getattr(plain, f.name) for f in fields(FederateConfig)}
        return LadderRun(**settings, rung=name)

    def summed(self, num_clients: int) -> Cell:
        """The same clients and learning rate, of whose updates the server sees the sum alone."""
        plain = self.iid(num_clients)
        assert isinstance(plain.base, FederateConfig)
        secure = replace(plain.base, privacy_options=PrivacyOptions(aggregation="secure"))
        id_ = f"{of_clients(num_clients)}-secure"
        changes = {"base": secure, "paper": None, "contest": None}
        return replace(plain, id=id_, name=f"{plain.name}, secure sum", **changes)

    def with_momentum(self, num_clients: int) -> Cell:
        """FedAvg with momentum at the server, at the client's learning rate of FedAvg."""
        contest = of_clients(num_clients)
        return self.federated(
            f"{contest}-fedavgm",
            f"10 of {num_clients} clients, fedavgm",
            num_clients,
            algorithm="fedavgm",
            servers=MOMENTA,
            contest=contest,
        )

    def in_small_batches(self, num_clients: int) -> Cell:
        """FedAvg in local batches of `SMALL_BATCH`, which choose a learning rate of their own."""
        scale, tuned_on = (
            size and replace(size, optim=replace(size.optim, batch_size=SMALL_BATCH))
            for size in (self.scale, self.tuning_scale)
        )
        small = replace(self, scale=scale, tuning_scale=tuned_on)
        name = f"10 of {num_clients} clients, fedavg, local batch {SMALL_BATCH}"
        contest = of_clients(num_clients)
        id_ = f"{contest}-fedavg-local-batch-{SMALL_BATCH}"
        return small.federated(id_, name, num_clients, contest=contest)

    def _rounds(self, num_clients: int, from_scratch: bool, **changes: Any) -> FederateConfig:
        """As many rounds of one local epoch as the images allow, of ten clients where there are."""
        seen, held = self.scale.num_seen, self.scale.data.num_samples
        per_round = min(PER_ROUND, num_clients)
        return FederateConfig(
            num_clients=num_clients,
            clients_per_round=per_round,
            num_rounds=max(1, seen * num_clients // (held * per_round)),
            optim_options=self.scale.optim,
            server_options=ServerOptions(round_schedule="cosine"),
            **self._common(from_scratch),
            **changes,
        )


def of_clients(num_clients: int) -> str:
    """Id of the row of FedAvg on so many iid clients, for which others compete."""
    return f"10-of-{num_clients}-clients"


def state_of(num_clients: int, state: str) -> str:
    """Id of the row of such clients whose optimizers go on."""
    return f"{of_clients(num_clients)}-state-{state}"


def control_of(name: str) -> str:
    """Id of the row of a control of ten clients."""
    return f"control-{name}"


PER_ROUND = 10
SKEW = 0.1  # alpha of the partition on which algorithms, and attacks, are compared
LAST = 3  # stage of what is run when every seed of the rest is
ON_DOMAIN = " on domain "
"""In a name of a table: other people than the comparison is made on."""
EVERYONE = of_clients(PER_ROUND)
SMALL_BATCH = 2
RUNGS = {
    "sequential": "control: batches of ten clients one after the other",
    "minibatch": "control: batches of ten clients at once",
    "redealt": "control: local steps, images dealt anew each round",
}
STATES = {"average": "averaged", "keep": "kept", "reset": "forgotten"}
MOMENTA = ({"server_momentum": 0.5}, {"server_momentum": 0.7})
LONGER = "centralized-twice-as-long"
NATURAL_CLIENTS = 60  # scenes among the training people of B, and of W, where each is a wearer's
NATURAL = f"natural-10-of-{NATURAL_CLIENTS}-scenes"
DEALT = f"iid-10-of-{NATURAL_CLIENTS}-clients"  # as many clients, images dealt at random
TUNED_ON = {NATURAL_CLIENTS: 100}  # clients whose learning rate others take over
# MPJPE / PA-MPJPE in mm on Human3.6M or, natural, on 3DPW, by family of the network and id.
PAPER = {
    ("fastmetro", CENTRALIZED): "57.98 / 40.62",
    ("fastmetro", "10-of-10-clients"): "56.85 / 40.52",
    ("fastmetro", "10-of-100-clients"): "59.31 / 41.48",
    ("fastmetro", "10-of-1000-clients"): "60.82 / 44.53",
    ("fastmetro", NATURAL): "86.83 / 55.61",
    ("tore", CENTRALIZED): "63.88 / 41.99",
    ("tore", "10-of-10-clients"): "61.27 / 41.60",
    ("tore", "10-of-100-clients"): "62.92 / 43.11",
    ("tore", "10-of-1000-clients"): "66.04 / 44.04",
    ("tore", NATURAL): "88.00 / 55.07",
}
