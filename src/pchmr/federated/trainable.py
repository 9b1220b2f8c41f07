"""Which weights of a network train and travel, as long as a run or a task lasts."""

from contextlib import AbstractContextManager

from torch import nn

from pchmr.config import FederateConfig
from pchmr.models.low_rank import only_low_rank_trains
from pchmr.models.trainable import only_head_trains


def part_that_trains(config: FederateConfig, model: nn.Module) -> AbstractContextManager[None]:
    """Leaves trainable what the settings ask for, as long as it is entered."""
    options = config.server_options
    if options.trainable == "lora":
        return only_low_rank_trains(model, options.lora_rank, config.seed)
    return only_head_trains(model, options.trainable == "head")
