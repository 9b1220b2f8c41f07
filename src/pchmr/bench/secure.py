"""What secure aggregation costs: CPU seconds and memory of a client and of the server, and bytes.

Each figure comes from a process of its own. Keys, shares and lists go through their bytes; vectors
are random and nobody trains. Memory is what the process grew by since before the vectors were made.
A whole round of Flower's own protocol stands beside one of ours, on the same vector.
"""

import hashlib
import resource
import time

import numpy as np

from pchmr.bench.federated import in_own_process
from pchmr.config import BenchConfig
from pchmr.federated.flower.stock import stock_round
from pchmr.federated.secure import Group, SecureClient, SecureServer
from pchmr.federated.secure.rehearsal import Rehearsal, make_clients, make_offer, settings_of
from pchmr.federated.secure.state import ClientState
from pchmr.results import ResultRow, Target, figure

MILLIONS, STOCK_MILLIONS = 33, 10
NUM_CLIENTS = 10
BOUND = 0.01
MODES = {20: ("packed", 0.7, 1e-3), 32: ("full", 1.01, 1e-6)}


def _begin(millions: int, bits: int) -> tuple[SecureServer, list[SecureClient], list[ClientState]]:
    """A round up to the shares."""
    group = Group("delta", millions * 1_000_000, BOUND, False, 1)
    clients = make_clients(NUM_CLIENTS)
    server = SecureServer(make_offer(clients, settings_of(group, bits=bits)))
    states = []
    for client in clients:
        advert, state = client.answer_offer(server.offer)
        server.take_advert(advert)
        states.append(state)
    for i, client in enumerate(clients):
        bundle, states[i] = client.answer_keys(states[i], server.key_list())
        server.take_shares(bundle)
    return server, clients, states


def _vector(millions: int) -> np.ndarray:
    """A delta whose values lie well within the range, as most of a model's do."""
    random = np.random.default_rng(0)
    return random.standard_normal(millions * 1_000_000, dtype=np.float32) * np.float32(BOUND / 8)


def _peak_bytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def measure_client(millions: int, bits: int) -> dict[str, float]:
    """One client's CPU seconds in a round, its peak memory and its upload, the model being 1."""
    server, clients, states = _begin(millions, bits)
    before, model = _peak_bytes(), _vector(millions)
    delivery, began = server.delivery(0), time.process_time()
    hashlib.sha256(model.data).digest()
    state = clients[0].receive(states[0], delivery, server.offer.model)
    vector, _ = clients[0].mask(state, [model], 1.0)
    return {
        "cpu_seconds": time.process_time() - began,
        "memory_ratio": (_peak_bytes() - before) / model.nbytes,
        "upload_ratio": len(vector.encode()) / model.nbytes,
    }


def measure_unmasking(millions: int, bits: int, num_lost: int) -> dict[str, float]:
    """CPU seconds of opening a sum, the server's peak memory, and the sum's relative error."""
    server, clients, states = _begin(millions, bits)
    model = _vector(millions)
    survivors = range(num_lost, NUM_CLIENTS)
    for i in survivors:
        state = clients[i].receive(states[i], server.delivery(i), server.offer.model)
        vector, states[i] = clients[i].mask(state, [model], 1.0)
        server.take_vector(vector)
    for i in survivors:
        sign, states[i] = clients[i].sign(states[i], server.survivor_list())
        server.take_signature(sign)
    for i in survivors:
        server.take_unmasking(clients[i].unmask(states[i], server.unmask_request()))
    began = time.process_time()
    total = server.finish().values[0]
    spent = time.process_time() - began
    wanted = np.clip(model, -BOUND, BOUND, out=model)
    wanted *= np.float32(len(survivors))
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
        add(f"{name}, client", round(found["cpu_seconds"], 3), "CPU-s", 1.0)
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
