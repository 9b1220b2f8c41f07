"""`python -m pchmr.federated.secure.selftest`: a lying server against real clients, a line a lie.

Each lie is told to real clients after an honest round. It is refused if every client that was lied
to refuses with the reason that the lie deserves, and noise if what the server is left with says
nothing about the sum. The program ends with 0 only if each was one of the two. It tests the clients
of this package and the handlers of their messages, not the channel, not the device, and not what an
aggregate gives away.
"""

import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from pchmr.federated.flower.lies import LIES as TASK_LIES
from pchmr.federated.flower.lies import is_refused
from pchmr.federated.secure.client import SecureClient
from pchmr.federated.secure.codec import Message
from pchmr.federated.secure.encoding import encode
from pchmr.federated.secure.lies import LIES, Lie, Scene
from pchmr.federated.secure.masks import apply_masks, scratch, self_mask
from pchmr.federated.secure.messages import Group, KeyList, SurvivorList, UnmaskRequest
from pchmr.federated.secure.packing import Ring, unpack
from pchmr.federated.secure.policy import SecurePolicy
from pchmr.federated.secure.refusal import Reason, Refusal, RoundAborted
from pchmr.federated.secure.rehearsal import Rehearsal, make_clients, make_offer, settings_of
from pchmr.federated.secure.server import SecureServer

NUM_CLIENTS = 10
NUM_VALUES = 512
BITS = 20
REFUSED, NOISE, ANSWERED = "refused", "noise", "ANSWERED"


def new_round(clients: list[SecureClient], round_number: int) -> Rehearsal:
    """A round of small vectors of ones."""
    settings = settings_of(Group("delta", NUM_VALUES, 1.0, False, 1), bits=BITS)
    values = [[np.ones(NUM_VALUES, dtype=np.float32)] for _ in clients]
    return Rehearsal(make_offer(clients, settings, round_number), clients, values)


def new_scene() -> Scene:
    """Ten clients that have finished one round."""
    clients = make_clients(NUM_CLIENTS, SecurePolicy(bits=BITS))
    old = new_round(clients, 1)
    total = old.run()
    assert np.allclose(total.values[0], NUM_CLIENTS, rtol=1e-3)
    return Scene(clients, old)


def tell(lie: Lie, scene: Scene) -> str:
    """What came of one lie that every client is told in a new round."""
    last = max(client.ledger.last[bytes(16).hex()][0] for client in scene.clients)
    now = new_round(scene.clients, last + 1)

    def lying(stage: str, client: int, message: Message) -> Message:
        return lie.tell(scene, client, message) if stage == lie.stage else message

    now.lie = lying
    with suppress(RoundAborted):
        now.run()
    found = {now.refusals.get(client) for client in now.lied_to}
    return REFUSED if found == {lie.reason} else f"{ANSWERED} {found}"


def refuses(reason: Reason, ask: Callable[[], object]) -> bool:
    """Whether a client refuses, for this reason."""
    try:
        ask()
    except Refusal as refusal:
        return refusal.reason == reason
    return False


def verdict(*refused: bool) -> str:
    """Refused if every client did."""
    return REFUSED if refused and all(refused) else ANSWERED


def other_model() -> str:
    """One client gets another model than the announced one."""
    now = new_round(new_scene().clients, 2)
    now.model = {3: secrets.token_bytes(32)}
    now.run()
    return verdict(now.refusals == {3: Reason.OTHER_MODEL})


def model_for_each_half() -> str:
    """Two halves of a cohort get two models, each announced to it."""
    clients = make_clients(NUM_CLIENTS)
    offers = [new_round(clients, 1).offer for _ in range(2)]
    answers = [client.answer_offer(offers[i % 2]) for i, client in enumerate(clients)]
    keys = KeyList(tuple(advert for advert, _ in answers))
    return verdict(
        *(
            refuses(Reason.BAD_SIGNATURE, lambda c=c, s=s: c.answer_keys(s, keys))
            for c, (_, s) in zip(clients, answers, strict=True)
        )
    )


def other_survivors_for_each_half() -> str:
    """Half of the clients sign that one client is lost, the other half that another is."""
    now = new_round(make_clients(NUM_CLIENTS), 1)
    stop_before(now, "consistency")
    everyone, context = 2**NUM_CLIENTS - 1, now.offer.context
    lists = [everyone & ~(1 << gone) for gone in (8, 9)]
    signs, refused = [], []
    for client in range(8):
        found = SurvivorList(context, lists[client % 2])
        sign, now.states[client] = now.clients[client].sign(now.states[client], found)
        signs.append(sign)
    for client in range(8):
        survivors = lists[client % 2]
        request = UnmaskRequest(context, survivors, everyone & ~survivors, tuple(signs))
        player, state = now.clients[client], now.states[client]
        refused.append(
            refuses(Reason.BAD_SIGNATURE, lambda p=player, s=state, r=request: p.unmask(s, r))
        )
    return verdict(*refused)


def stop_before(now: Rehearsal, stage: str) -> None:
    """Plays the round up to a stage, at which the server says no more."""
    now.drops = {stage: range(NUM_CLIENTS)}
    try:
        now.run()
    except RoundAborted:
        return
    raise AssertionError("the round went on without clients")


def second_unmasking() -> str:
    """The finished round's request again."""
    scene = new_scene()
    refused = []
    for i, client in enumerate(scene.clients):
        request: Any = scene.old.told["unmask", i]
        state = scene.old.states[i]
        refused.append(refuses(Reason.REPLAY, lambda c=client, s=state, r=request: c.unmask(s, r)))
    return verdict(*refused)


def one_survivor_less() -> str:
    """The cohort of the round before, of which one client is said to be lost.

    Its vector would be the difference of two sums. Told to clients whose policy keeps survivors
    apart; by default they do not, since one client is lost in truth more often.
    """
    policy = SecurePolicy(bits=BITS, keep_survivors_apart=True)
    clients = make_clients(NUM_CLIENTS, policy)
    new_round(clients, 1).run()
    now = new_round(clients, 2)
    now.drops = {"masked": [NUM_CLIENTS - 1]}
    with suppress(RoundAborted):
        now.run()
    wanted = dict.fromkeys(range(NUM_CLIENTS - 1), Reason.COHORT_OVERLAP)
    return verdict(now.refusals == wanted)


def unmasking_without_consistency() -> str:
    """A request for shares right after the vectors."""
    now = new_round(make_clients(NUM_CLIENTS), 1)
    stop_before(now, "consistency")
    request = UnmaskRequest(now.offer.context, 2**NUM_CLIENTS - 1, 0, ())
    return verdict(
        *(
            refuses(Reason.WRONG_STAGE, lambda c=c, i=i: c.unmask(now.states[i], request))
            for i, c in enumerate(now.clients)
        )
    )


def second_survivor_list() -> str:
    """Another list of survivors after one was signed."""
    scene = new_scene()
    found = SurvivorList(scene.old.offer.context, 2**NUM_CLIENTS - 2)
    return verdict(
        *(
            refuses(Reason.WRONG_STAGE, lambda c=c, i=i: c.sign(scene.old.states[i], found))
            for i, c in enumerate(scene.clients)
            if i
        )
    )


def cut_messages() -> str:
    """Every message of the server, one byte short and one byte long."""
    refused = []
    for message in new_scene().old.told.values():
        data = message.encode()
        for wrong in (data[:-1], data + b"\0", b"", data[16:]):
            refused.append(refuses(Reason.MALFORMED, lambda m=message, w=wrong: type(m).decode(w)))
    return verdict(*refused)


def masked_sum(now: Rehearsal, change: Callable[[int], None]) -> Ring:
    """The sum of all masked vectors without the self masks, where states were changed before."""
    stop_before(now, "masked")
    server = SecureServer(now.offer)
    total, buffer = np.zeros(NUM_VALUES, dtype=np.uint32), scratch()
    for sent in now.sent:
        if type(sent).__name__ == "KeyAdvert":
            server.take_advert(sent)  # type: ignore[arg-type]
    server.key_list()
    for sent in now.sent:
        if type(sent).__name__ == "ShareBundle":
            server.take_shares(sent)  # type: ignore[arg-type]
    for i, client in enumerate(now.clients):
        state = client.receive(now.states[i], server.delivery(i), now.offer.model)
        now.states[i] = state
        change(i)
        vector, _ = client.mask(now.states[i], now.values[i], 1.0)
        total += unpack(memoryview(vector.packed), NUM_VALUES, BITS)[0]
        own = self_mask(state.seed, i, now.states[i].mask_binding())
        apply_masks(total, [own], buffer, inverse=True)
    return total


def is_noise(now: Rehearsal, total: Ring) -> str:
    """Whether a sum of masked vectors is far from the honest sum almost everywhere."""
    honest = sum(
        next(encode(now.offer.settings, NUM_CLIENTS, values, 1.0)).astype(np.int64)
        for values in now.values
    )
    off = (total.astype(np.int64) - honest) % 2**BITS
    near = np.minimum(off, 2**BITS - off) <= 2 * NUM_CLIENTS
    return NOISE if near.mean() < 0.01 else ANSWERED


def other_model_unseen() -> str:
    """One client does not compare models and is shown another one: masks do not cancel."""
    now = new_round(make_clients(NUM_CLIENTS), 1)

    def change(client: int) -> None:
        if client == 3:
            state = now.states[3]
            now.states[3] = replace(state, offer=replace(state.offer, model=bytes(32)))

    return is_noise(now, masked_sum(now, change))


def other_participants_unseen() -> str:
    """One client is told of fewer participants than the others."""
    now = new_round(make_clients(NUM_CLIENTS), 1)

    def change(client: int) -> None:
        if client == 3:
            now.states[3] = replace(now.states[3], held=now.states[3].held[:-1])

    return is_noise(now, masked_sum(now, change))


def lie_about_tasks(name: str) -> str:
    """A lie beside the protocol's messages."""
    return verdict(is_refused(TASK_LIES[name]))


def nothing_changed() -> str:
    """The control: without a lie the same steps give the sum."""
    now = new_round(make_clients(NUM_CLIENTS), 1)
    return is_noise(now, masked_sum(now, lambda client: None))


STORIES: dict[str, Callable[[], str]] = {
    "another model than announced": other_model,
    "a model for each half of the cohort": model_for_each_half,
    "another model, not compared": other_model_unseen,
    "other participants for one client": other_participants_unseen,
    "other survivors for each half": other_survivors_for_each_half,
    "a second list of survivors": second_survivor_list,
    "one survivor less than in the round before": one_survivor_less,
    "unmasking without consistency": unmasking_without_consistency,
    "a second unmasking": second_unmasking,
    "messages cut and lengthened": cut_messages,
    **{name: partial(lie_about_tasks, name) for name in TASK_LIES},
}


def outcomes() -> dict[str, str]:
    """What came of every lie."""
    scene = new_scene()
    told = {name: tell(lie, scene) for name, lie in LIES.items()}
    return told | {name: story() for name, story in STORIES.items()}


def main() -> int:
    """Prints a line a lie; returns 0 if each was refused or gave noise."""
    if nothing_changed() != ANSWERED:
        print("the control failed: an honest round gave noise")
        return 1
    found = outcomes()
    for name, outcome in found.items():
        print(f"{outcome:8} {name}")
    bad = sum(outcome not in (REFUSED, NOISE) for outcome in found.values())
    print(f"{len(found)} lies, {bad} of them answered")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
