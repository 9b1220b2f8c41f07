"""The ways in which a server may lie, each as a change of one message that it sends.

A lie takes the scene, the client that is told and the honest message, and gives what is told. Most
need nothing but the message; replays take theirs from an earlier round of the same clients.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pchmr.federated.secure.client import KEYS_PURPOSE, SecureClient, signed
from pchmr.federated.secure.identity import Identity, Roster
from pchmr.federated.secure.masks import new_key, public_key
from pchmr.federated.secure.messages import SurvivorSign
from pchmr.federated.secure.refusal import Reason
from pchmr.federated.secure.rehearsal import Rehearsal


@dataclass(frozen=True)
class Scene:
    """What a lying server has at hand.

    Attributes:
        clients: The cohort.
        old: An honest round of the same clients, which ended.
    """

    clients: list[SecureClient]
    old: Rehearsal


Tell = Callable[[Scene, int, Any], Any]


@dataclass(frozen=True)
class Lie:
    """One lie.

    Attributes:
        stage: When.
        reason: Why clients are to refuse.
        tell: What is told in place of the honest message.
    """

    stage: str
    reason: Reason
    tell: Tell


def _settings(message: Any, **changes: Any) -> Any:
    return replace(message, settings=replace(message.settings, **changes))


def _bounds(message: Any, bound: float) -> Any:
    groups = tuple(replace(group, bound=bound) for group in message.settings.groups)
    return _settings(message, groups=groups)


def _cohort(message: Any, keys: Sequence[bytes]) -> Any:
    return replace(message, cohort=tuple(keys), threshold=2 * len(keys) // 3 + 1)


def _with_sybils(scene: Scene, client: int, message: Any) -> Any:
    """All but the victim are the server's own."""
    own = scene.clients[client].identity.public
    sybils = [Identity.generate().public for _ in message.cohort[1:]]
    return _cohort(message, list(Roster.of([own, *sybils]).keys))


def _changed(message: Any, client: int, **changes: Any) -> Any:
    """The list of keys with another client's entry changed."""
    other = (client + 1) % len(message.adverts)
    adverts = list(message.adverts)
    adverts[other] = replace(adverts[other], **changes)
    return replace(message, adverts=tuple(adverts))


def _own_changed(message: Any, client: int) -> Any:
    adverts = list(message.adverts)
    adverts[client] = replace(adverts[client], mask_key=public_key(new_key()))
    return replace(message, adverts=tuple(adverts))


def _forged(scene: Scene, client: int, message: Any, **changes: Any) -> Any:
    """Another client's keys changed and signed by it: it colludes with the server."""
    other = (client + 1) % len(message.adverts)
    advert = replace(message.adverts[other], **changes)
    signature = scene.clients[other].identity.sign(KEYS_PURPOSE, advert.signed_part)
    return _changed(message, client, **vars(signed(advert, signature)))


def _swapped_shares(message: Any) -> Any:
    first, second, *rest = message.shares
    swapped = replace(first, sealed=second.sealed), replace(second, sealed=first.sealed)
    return replace(message, shares=(*swapped, *rest))


def _flipped(message: Any) -> Any:
    first, *rest = message.shares
    sealed = first.sealed[:-1] + bytes([first.sealed[-1] ^ 1])
    return replace(message, shares=(replace(first, sealed=sealed), *rest))


def _lost(message: Any, client: int) -> Any:
    """The request for another survivor's mask key, in place of its seed."""
    other = 1 << (client + 1) % 10
    return replace(message, survivors=message.survivors & ~other, lost=message.lost | other)


def _overlap(message: Any, client: int) -> Any:
    return replace(message, lost=message.lost | 1 << (client + 1) % 10)


def _one_signature(message: Any) -> Any:
    first = message.signatures[0]
    copies = tuple(SurvivorSign(first.context, i, first.signature) for i in range(10))
    return replace(message, signatures=copies)


def _of(scene: Scene, stage: str, client: int) -> Any:
    """What the client was told in the earlier round."""
    return scene.old.told[stage, client]


def _other_key(message: Any, client: int, field: str) -> Any:
    """Another client's key is the server's."""
    return _changed(message, client, **{field: public_key(new_key())})


def _copied_key(scene: Scene, client: int, message: Any) -> Any:
    third = message.adverts[(client + 2) % len(message.adverts)]
    return _forged(scene, client, message, mask_key=third.mask_key)


def _last_again(message: Any, field: str) -> Any:
    """A list whose last item is its last item twice."""
    items = getattr(message, field)
    return replace(message, **{field: (*items, items[-1])})


def _retargeted(message: Any) -> Any:
    first, *rest = message.shares
    return replace(message, shares=(replace(first, target=first.source), *rest))


def _without_last(scene: Scene, client: int, message: Any) -> Any:
    last = len(message.cohort) - 1
    return message if client == last else _cohort(message, list(message.cohort[:last]))


def _six(client: int, message: Any) -> Any:
    return replace(message, survivors=0b111111) if client < 6 else message


def _then(scene: Scene, stage: str, client: int) -> Any:
    """What the client was told in the earlier round."""
    return scene.old.told[stage, client]


def _keys(reason: Reason, change: Callable[[Any], Any]) -> Lie:
    """A lie in the offer."""
    return Lie("keys", reason, lambda scene, client, message: change(message))


def _list(reason: Reason, change: Callable[[Any, int], Any]) -> Lie:
    """A lie in the list of keys."""
    return Lie("shares", reason, lambda scene, client, message: change(message, client))


def _delivery(reason: Reason, change: Callable[[Any], Any]) -> Lie:
    """A lie in the delivered shares."""
    return Lie("masked", reason, lambda scene, client, message: change(message))


def _survivors(reason: Reason, change: Callable[[Any, int], Any]) -> Lie:
    """A lie in the list of survivors."""
    return Lie("consistency", reason, lambda scene, client, message: change(message, client))


def _request(reason: Reason, change: Callable[[Any, int], Any]) -> Lie:
    """A lie in the request for shares."""
    return Lie("unmask", reason, lambda scene, client, message: change(message, client))


def _replayed(stage: str, reason: Reason) -> Lie:
    """The earlier round's message once more."""
    return Lie(stage, reason, lambda scene, client, message: _then(scene, stage, client))


R = Reason
LIES: dict[str, Lie] = {
    "a cohort of four": _keys(R.SMALL_COHORT, lambda m: _cohort(m, m.cohort[:4])),
    "a cohort of sixty": _keys(R.LARGE_COHORT, lambda m: _cohort(m, [bytes(32)] * 60)),
    "a threshold of one": _keys(R.LOW_THRESHOLD, lambda m: replace(m, threshold=1)),
    "a threshold of half": _keys(R.LOW_THRESHOLD, lambda m: replace(m, threshold=5)),
    "a threshold above all": _keys(R.LOW_THRESHOLD, lambda m: replace(m, threshold=11)),
    "a foreign roster": _keys(R.FOREIGN_ROSTER, lambda m: replace(m, roster=bytes(32))),
    "a cohort of sybils": Lie("keys", R.FOREIGN_ROSTER, _with_sybils),
    "one identity twice": _keys(R.DOUBLED, lambda m: _cohort(m, [*m.cohort, m.cohort[0]])),
    "a ring of 8 bits": _keys(R.WRONG_CONFIG, lambda m: _settings(m, bits=8)),
    "a ring of 33 bits": _keys(R.WRONG_CONFIG, lambda m: _settings(m, bits=33)),
    "a clip of 1e12": _keys(R.WRONG_CONFIG, lambda m: _bounds(m, 1e12)),
    "a clip that is no number": _keys(R.WRONG_CONFIG, lambda m: _bounds(m, math.nan)),
    "a weight cap of 1e9": _keys(R.WRONG_CONFIG, lambda m: _settings(m, weight_cap=1e9)),
    "another config": _keys(R.WRONG_CONFIG, lambda m: _settings(m, training=bytes(32))),
    "the old offer again": _replayed("keys", R.REPLAY),
    "the old model in another round": Lie(
        "keys", R.MODEL_AGAIN, lambda s, c, m: replace(m, model=_then(s, "keys", c).model)
    ),
    "the old model in another run": Lie(
        "keys",
        R.MODEL_AGAIN,
        lambda s, c, m: replace(m, model=_then(s, "keys", c).model, run=b"another run, new"),
    ),
    "the old cohort but one": Lie("keys", R.COHORT_OVERLAP, _without_last),
    "unsigned keys": _list(R.BAD_SIGNATURE, lambda m, c: _changed(m, c, signature=bytes(64))),
    "the server's mask key": _list(R.BAD_SIGNATURE, lambda m, c: _other_key(m, c, "mask_key")),
    "the server's sealing key": _list(R.BAD_SIGNATURE, lambda m, c: _other_key(m, c, "seal_key")),
    "another commitment": _list(R.BAD_SIGNATURE, lambda m, c: _other_key(m, c, "commitment")),
    "the client's own keys changed": _list(R.BAD_SIGNATURE, _own_changed),
    "keys of the old round": _replayed("shares", R.BAD_SIGNATURE),
    "one client's keys twice": _list(R.DOUBLED, lambda m, c: _last_again(m, "adverts")),
    "one key of two clients": Lie("shares", R.DOUBLED, _copied_key),
    "a key of small order": Lie(
        "shares", R.BAD_SIGNATURE, lambda s, c, m: _forged(s, c, m, seal_key=bytes(32))
    ),
    "keys of six clients": _list(R.TOO_FEW, lambda m, c: replace(m, adverts=m.adverts[:6])),
    "shares of the old round": _replayed("masked", R.WRONG_ROUND),
    "old shares in a new cover": Lie(
        "masked", R.BAD_SHARE, lambda s, c, m: replace(m, shares=_then(s, "masked", c).shares)
    ),
    "two shares swapped": _delivery(R.BAD_SHARE, _swapped_shares),
    "one bit of a share changed": _delivery(R.BAD_SHARE, _flipped),
    "a share for another client": _delivery(R.BAD_SHARE, _retargeted),
    "one client's share twice": _delivery(R.DOUBLED, lambda m: _last_again(m, "shares")),
    "shares of six clients": _delivery(R.TOO_FEW, lambda m: replace(m, shares=m.shares[:5])),
    "six survivors": _survivors(R.TOO_FEW, lambda m, c: _six(c, m)),
    "survivors that never were": _survivors(
        R.FALSE_SURVIVORS, lambda m, c: replace(m, survivors=m.survivors | 1 << 40)
    ),
    "survivors without the client": _survivors(
        R.FALSE_SURVIVORS, lambda m, c: replace(m, survivors=m.survivors & ~(1 << c))
    ),
    "survivors of the old round": _replayed("consistency", R.WRONG_ROUND),
    "both shares of a survivor": _request(R.FALSE_SURVIVORS, _lost),
    "overlapping lists": _request(R.FALSE_SURVIVORS, _overlap),
    "no signatures": _request(R.BAD_SIGNATURE, lambda m, c: replace(m, signatures=())),
    "one signature ten times": _request(R.BAD_SIGNATURE, lambda m, c: _one_signature(m)),
    "signatures of the old round": Lie(
        "unmask",
        R.BAD_SIGNATURE,
        lambda s, c, m: replace(m, signatures=_then(s, "unmask", c).signatures),
    ),
    "the old request again": _replayed("unmask", R.WRONG_ROUND),
}
