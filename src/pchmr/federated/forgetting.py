"""What simulated clients keep between rounds ends with their run, and a run without it is not made
longer: clients would begin anew beside a server that remembers them.

Devices of a real federation keep and forget on their own.
"""

from pchmr.config import FederateConfig, require
from pchmr.federated.algorithms import ALGORITHMS
from pchmr.federated.client_state import ClientStates
from pchmr.federated.flower.secure_app import RESIDUALS
from pchmr.federated.ledger import Ledger
from pchmr.runs import RunFolder

CLIENTS = "clients"


def forget_clients(run: RunFolder) -> None:
    """Removes which rounds simulated clients answered, then what they kept: where a client has
    answered, nothing is lost yet.
    """
    Ledger(run.path / CLIENTS).clear()
    ClientStates(run.path / CLIENTS).clear()
    ClientStates(run.path / CLIENTS / RESIDUALS).clear()


def require_clients(config: FederateConfig, run: RunFolder, num_finished: int) -> None:
    """Refuses to lengthen a run that has ended and whose clients' state, then, is gone.

    Raises:
        SettingError: It has, and they kept some.
    """
    kept = {
        "their control variates": ALGORITHMS[config.algorithm].has_control,
        "the state of their optimizers": config.server_options.client_state == "keep",
        "what rounding left over": config.privacy_options.is_secure
        and not config.privacy_options.is_noised,
    }
    gone = [name for name, is_kept in kept.items() if is_kept]
    is_over = num_finished > 0 and Ledger(run.path / CLIENTS).is_empty
    require(
        not (gone and is_over),
        f"--resume: the run ended after {num_finished} rounds and its clients have forgotten "
        f"{' and '.join(gone)}: give --num-rounds {num_finished}, or start a longer run anew "
        "without --resume",
    )
