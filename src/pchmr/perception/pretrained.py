"""Loads a transformers model from a local folder: never from the network, never from a pickle."""

from pathlib import Path
from typing import Any

from transformers.utils import logging

from pchmr.config import SettingError
from pchmr.perception.interfaces import require_channels

logging.set_verbosity_error()
logging.disable_progress_bar()


def load_pretrained(name: str, kind: Any, weights: Path, *, num_labels: int | None = None) -> Any:
    """The model in evaluation mode.

    Args:
        name: Of the prior, for messages.
        kind: Class of transformers.
        weights: Folder as `save_pretrained` writes it.
        num_labels: Channels that its output must have.

    Raises:
        SettingError: The folder does not hold such a model as safetensors.
    """
    if not (weights / "config.json").is_file():
        raise SettingError(
            f"{weights} holds no config.json: give the folder that the publisher's files were "
            "saved in (config.json and model.safetensors)"
        )
    try:
        config = kind.config_class.from_pretrained(weights, local_files_only=True)
        if num_labels is not None:
            require_channels(name, config.num_labels, num_labels)
        model, report = kind.from_pretrained(
            weights, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except SettingError:
        raise
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SettingError(f"cannot load {kind.__name__} from {weights}: {first}") from None
    if report["missing_keys"]:
        raise SettingError(
            f"{weights} lacks {sorted(report['missing_keys'])[0]} of {kind.__name__}: it belongs "
            "to another model or is incomplete"
        )
    return model.eval()
