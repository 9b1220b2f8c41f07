"""The Flower ClientApp: unpacks a task, lets the worker train, packs the reply.

Whatever goes wrong, the reply is a reason code. What was raised is logged here, on the client,
once for each message.
"""

import logging
from collections.abc import Callable
from functools import partial

from pchmr.config import UserError
from pchmr.federated.flower.api import ClientApp, Context, Error, Message, RecordDict
from pchmr.federated.flower.egress import ERROR_CODE, Carry, pack
from pchmr.federated.flower.secure_app import STAGES, answer
from pchmr.federated.flower.tasks import Resident, TaskMessage, is_plain
from pchmr.federated.secure.refusal import Refusal
from pchmr.federated.update import SCHEMA, Rejected

log = logging.getLogger("pchmr.federated.client")
_TOLD: set[str] = set()


Handler = Callable[[Resident, Carry, Message], RecordDict]


def train(resident: Resident, carry: Carry, message: Message) -> RecordDict:
    """Answers a task with an update.

    Raises:
        Rejected: The task is not one, or the device's policy says no.
    """
    if not is_plain(message):
        raise Rejected("task_schema")
    asked = TaskMessage.of(message.content)
    worker, run = resident(asked.settings), int(asked.echo["run"])
    if worker.config.privacy_options.is_secure:  # a sum was agreed on: no update in the clear
        raise Rejected("policy")
    schema = worker.schema(run)
    node_id = message.metadata.dst_node_id
    update = worker.answer(asked.task(schema), resident.guard, run=run, node_id=node_id)
    return pack(schema, update, asked.echo | {"schema": SCHEMA}, carry)


# Message types of Flower, and what answers them.
HANDLERS: dict[str, Handler] = {"train": train} | {
    name: partial(answer, stage) for name, stage in STAGES.items()
}


def make_client_app(resident: Resident, carry: Carry) -> ClientApp:
    """The app that every engine runs; it can be pickled if its arguments can.

    Args:
        resident: Gives this process's resident worker for a config, and guards it.
        carry: Makes a Flower array of a NumPy array.
    """
    app = ClientApp()
    for message_type, handler in HANDLERS.items():
        category, _, action = message_type.partition(".")
        register = getattr(app, category)(action) if action else getattr(app, category)()
        register(partial(_safely, handler, resident, carry))
    return app


def _safely(
    handler: Handler, resident: Resident, carry: Carry, message: Message, context: Context
) -> Message:
    try:
        return Message(handler(resident, carry, message), reply_to=message)
    except Rejected as rejected:
        return refusal(message, rejected.reason)
    except Refusal as said:
        _tell_once(said)
        return refusal(message, said.reason.value)
    except Exception as error:
        _tell_once(error)
        return refusal(message, "client_error")


def _tell_once(error: Exception) -> None:
    """Logs what was raised, on this machine, once for each text."""
    if str(error) not in _TOLD:
        _TOLD.add(str(error))
        bug = not isinstance(error, UserError)
        log.warning("a client could not train: %s", error, exc_info=bug)


def refusal(message: Message, reason: str) -> Message:
    """A reply that carries nothing but a reason code."""
    return Message(Error(code=ERROR_CODE, reason=reason), reply_to=message)
