"""A shared model made a person's own: labels made here, fine-tuning, scores before and after.

`run` is what `pchmr personalize` calls; `pchmr.loop` uses the parts. Nothing here sends anything,
and nothing of federation is imported.
"""

from pchmr.personalize.job import run

__all__ = ["run"]
