"""What secure aggregation costs: CPU seconds of a client and of unmasking, memory, and bytes.

Each figure comes from a process of its own. Vectors are random, each client's its own, and nobody
trains. Memory is what a client's process grew by since before its vector was made.
A whole round of Flower's own protocol stands beside one of ours, on the same vector.
"""

import hashlib
import time
from dataclasses import dataclass

import numpy as np

from pchmr.bench.federated import in_own_process
from pchmr.bench.memory import forget_peak, peak_bytes
from pchmr.config import BenchConfig
from pchmr.federated.flower.stock import stock_round
from pchmr.federated.secure import Group, SecureClient, SecureServer
from pchmr.federated.secure.messages import SurvivorList, UnmaskRequest
from pchmr.federated.secure.rehearsal import Rehearsal, make_clients, make_offer, settings_of
from pchmr.federated.secure.state import ClientState
from pchmr.results import ResultRow, Target, figure

MILLIONS, STOCK_MILLIONS = 33, 10
NUM_CLIENTS = 10
BOUND = 0.01
MODES = {20: ("packed", 0.7, 1e-3), 32: ("full", 1.01, 1e-6)}


@dataclass
class _Begun:
    """A round up to the shares; what the first client spent on it."""

    server: SecureServer
    clients: list[SecureClient]
    states: list[ClientState]
    first_seconds: float


def _begin(millions: int, bits: int) -> _Begun:
    group = Group("delta", millions * 1_000_000, BOUND, False, 1)
    clients = make_clients(NUM_CLIENTS)
    server = SecureServer(make_offer(clients, settings_of(group, bits=bits)))
    states, first = [], 0.0
    for i, client in enumerate(clients):
        began = time.process_time()
        advert, state = client.answer_offer(server.offer)
        first += 0.0 if i else time.process_time() - began
        server.take_advert(advert)
        states.append(state)
    keys = server.key_list()
    for i, client in enumerate(clients):
        began = time.process_time()
        bundle, states[i] = client.answer_keys(states[i], keys)
        first += 0.0 if i else time.process_time() - began
        server.take_shares(bundle)
    return _Begun(server, clients, states, first)


def _vector(millions: int) -> np.ndarray:
    """A delta whose values lie well within the range, as most of a model's do."""
    random = np.random.default_rng(0)
    return random.standard_normal(millions * 1_000_000, dtype=np.float32) * np.float32(BOUND / 8)


def measure_client(millions: int, bits: int) -> dict[str, float]:
    """One client's CPU seconds in a round, its peak memory and its upload, the model being 1.

    All five stages count. The others' vectors are left out: they sign as if they had sent one.
    """
    begun = _begin(millions, bits)
    server, clients, offer = begun.server, begun.clients, begun.server.offer
    before, model = forget_peak(), _vector(millions)
    delivery, began = server.delivery(0), time.process_time()
    hashlib.sha256(model.data).digest()
    state = clients[0].receive(begun.states[0], delivery, offer.model)
    vector, state = clients[0].mask(state, [model], 1.0)
    found = SurvivorList(offer.context, (1 << NUM_CLIENTS) - 1)
    sign, state = clients[0].sign(state, found)
    spent, signs = begun.first_seconds + time.process_time() - began, [sign]
    for i in range(1, NUM_CLIENTS):
        other = clients[i].receive(begun.states[i], server.delivery(i), offer.model)
        signs.append(clients[i].sign(other.at("masked"), found)[0])
    request = UnmaskRequest(offer.context, found.survivors, 0, tuple(signs))
    began = time.process_time()
    clients[0].unmask(state, request)
    return {
        "cpu_seconds": spent + time.process_time() - began,
        "memory_ratio": (peak_bytes() - before) / model.nbytes,
        "upload_ratio": len(vector.encode()) / model.nbytes,
    }


def measure_unmasking(millions: int, bits: int, num_lost: int) -> dict[str, float]:
    """CPU seconds of opening a sum, and the sum's relative error, each client's vector its own."""
    begun = _begin(millions, bits)
    server, clients, states = begun.server, begun.clients, begun.states
    model = _vector(millions)
    survivors, wanted = range(num_lost, NUM_CLIENTS), np.zeros_like(model)
    for i in survivors:
        own = np.roll(model, i) * np.float32(1 - i / NUM_CLIENTS)
        wanted += np.clip(own, -BOUND, BOUND)
        state = clients[i].receive(states[i], server.delivery(i), server.offer.model)
        vector, states[i] = clients[i].mask(state, [own], 1.0)
        server.take_vector(vector)
    for i in survivors:
        sign, states[i] = clients[i].sign(states[i], server.survivor_list())
        server.take_signature(sign)
    for i in survivors:
        server.take_unmasking(clients[i].unmask(states[i], server.unmask_request()))
    began = time.process_time()
    total = server.finish().values[0]
    spent = time.process_time() - began
    error = float(np.linalg.norm(total - wanted) / np.linalg.norm(wanted))
    return {"cpu_seconds": spent, "error": error}


def measure_stock(millions: int) -> dict[str, float]:
    """A whole round of Flower's own protocol; see `flower/stock.py`."""
    model = _vector(millions)
    cost = stock_round(model, NUM_CLIENTS)
    return {
        "cpu_seconds": cost.total_seconds,
        "client_seconds": cost.client_seconds,
        "upload_ratio": cost.upload_bytes / model.nbytes,
        "error": cost.error,
    }


def measure_ours(millions: int, bits: int) -> dict[str, float]:
    """A whole round of ours on the vector that `measure_stock` sends, messages through bytes."""
    model = _vector(millions)
    group = Group("delta", len(model), float(np.abs(model).max()), False, 1)
    clients = make_clients(NUM_CLIENTS)
    began = time.process_time()
    offer = make_offer(clients, settings_of(group, bits=bits))
    round_ = Rehearsal(offer, clients, [[model]] * NUM_CLIENTS)
    total = round_.run().values[0]
    spent = time.process_time() - began
    total *= np.float32(1 / NUM_CLIENTS)
    uploaded = sum(len(message.encode()) for message in round_.sent)
    return {
        "cpu_seconds": spent,
        "upload_ratio": uploaded / NUM_CLIENTS / model.nbytes,
        "error": float(np.linalg.norm(total - model) / np.linalg.norm(model)),
    }


def tables(config: BenchConfig) -> list[ResultRow]:
    """Figures with their targets; the best of `repeats` processes."""
    rows: list[ResultRow] = []

    def best(function: str, *arguments: int) -> dict[str, float]:
        found = [in_own_process(__name__, function, *arguments) for _ in range(config.repeats)]
        return min(found, key=lambda figures: figures["cpu_seconds"])

    def add(label: str, value: float, unit: str, most: float) -> None:
        rows.append(figure(label, value, unit, Target("<=", most)))

    for bits, (mode, upload, error) in MODES.items():
        name = f"secure aggregation, {mode}, {MILLIONS} M weights, {NUM_CLIENTS} clients"
        found = best("measure_client", MILLIONS, bits)
        add(f"{name}, client, all stages", round(found["cpu_seconds"], 3), "CPU-s", 1.0)
        add(f"{name}, client's memory", round(found["memory_ratio"], 3), "x model", 4)
        add(f"{name}, upload", round(found["upload_ratio"], 4), "x plain fp32", upload)
        for num_lost, target in ((0, 0.5), (3, 1.5)):
            found = best("measure_unmasking", MILLIONS, bits, num_lost)
            add(
                f"{name}, {num_lost} lost, unmasking",
                round(found["cpu_seconds"], 3),
                "CPU-s",
                target,
            )
            add(f"{name}, {num_lost} lost, error", found["error"], "relative L2", error)
    whole = f"whole round, {STOCK_MILLIONS} M weights, {NUM_CLIENTS} clients and the server"
    found = {
        f"ours, {mode}": best("measure_ours", STOCK_MILLIONS, b) for b, (mode, *_) in MODES.items()
    }
    found["Flower's SecAgg+"] = best("measure_stock", STOCK_MILLIONS)
    for name, cost in found.items():
        rows += [
            figure(f"{name}, {whole}", round(cost["cpu_seconds"], 2), "CPU-s"),
            figure(f"{name}, {whole}, upload", round(cost["upload_ratio"], 4), "x plain fp32"),
            figure(f"{name}, {whole}, error", cost["error"], "relative L2"),
        ]
    return rows
