"""The demo's part on personalization: a few headset wearers, before and after, for its report."""

from base64 import b64encode
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pchmr import worlds
from pchmr.config import DataConfig, DataOptions, FittingOptions, PersonalizeConfig
from pchmr.personalize import run as personalize
from pchmr.personalize.job import USERS
from pchmr.personalize.pictures import PICTURES

ROWS = (
    ("before_truth", "the shared model"),
    ("settled_truth", "after other headset wearers, no picture of the user"),
    ("constant_truth", "a constant, fitted on the truth of the training pictures"),
    ("after_truth", "the personal model"),
)
NAMES = ("mpjpe_mm", "pa_mpjpe_mm", "mpvpe_mm")


def tell_personal(
    folder: Path, data: DataOptions, options: FittingOptions, num_users: int, seed: int = 0
) -> Markup:
    """A section of the report.

    Args:
        folder: Where users are rendered, labeled and learned from.
        data: How many pictures; the domain is that of headset wearers.
        options: How their models learn.
        num_users: How many of them.
        seed: Draws the users.
    """
    root = folder / "root"
    worlds.run(DataConfig(task="synth", output=root, seed=seed, data_options=data))
    output = folder / "personal"
    config = PersonalizeConfig(
        images=root, output=output, seed=seed, num_users=num_users, fitting_options=options
    )
    summary = personalize(config)
    rows = [
        (words, [f"{summary[name][score]:.0f}" for score in NAMES])
        for name, words in ROWS
        if name in summary
    ]
    sheets = [
        b64encode((output / USERS / user / PICTURES).read_bytes()).decode()
        for user in summary["users"]
        if (output / USERS / user / PICTURES).is_file()
    ]
    environment = Environment(
        loader=PackageLoader("pchmr", "web"), autoescape=True, undefined=StrictUndefined
    )
    template = environment.get_template("personal.html.j2")
    forgetting = f"{100 * summary['forgetting']:+.1f}"
    users = len(summary["users"])
    return Markup(template.render(count=users, rows=rows, sheets=sheets, forgetting=forgetting))
