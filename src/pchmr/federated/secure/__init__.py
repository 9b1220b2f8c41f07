"""Secure aggregation: the server learns the sum of a cohort's vectors and no vector.

Read it in this order: `messages` (what is sent), `client` and `server` (the two halves of a round),
`masks` and `shamir` (what hides and what recovers), `encoding` and `packing` (numbers as ring
elements), `identity`, `policy` and `state` (what a client knows, asks and keeps). It knows no
framework. The threat model is in `docs/privacy.md`; the released model is not protected.
"""

from pchmr.federated.secure.client import SecureClient
from pchmr.federated.secure.identity import Identity, Roster
from pchmr.federated.secure.messages import Group, RoundOffer, Settings
from pchmr.federated.secure.policy import Ledger, SecurePolicy
from pchmr.federated.secure.refusal import Reason, Refusal, RoundAborted
from pchmr.federated.secure.server import SecureServer, SecureSum

__all__ = [
    "Group",
    "Identity",
    "Ledger",
    "Reason",
    "Refusal",
    "Roster",
    "RoundAborted",
    "RoundOffer",
    "SecureClient",
    "SecurePolicy",
    "SecureServer",
    "SecureSum",
    "Settings",
]
