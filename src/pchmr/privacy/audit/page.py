"""The page of an audit: its figures with their lines, and what they do not say."""

from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pchmr.privacy.audit.figures import Figure

RELEASED = (
    "Neither view protects the released model: whoever gets its weights can attack them, and "
    "secure aggregation does not change them."
)
LIMITS = (
    "The people are rendered, and the attacker knows how: the strongest case for it.",
    "Attacks are the strongest that were found here, not the strongest there are: a figure near "
    "chance is no proof.",
    "The clients' data are one person each; a client of many people gives less of each away.",
    RELEASED,
)
ABOUT = {
    "shape": "Body shape (a): which of the known shapes has the client?",
    "membership": "Membership (b): was this picture trained on, or another of the same person?",
    "reconstruction": "Reconstruction (c): the picture of a client that has one and takes one step",
    "rounds": "Many rounds (d): sums regressed on who took part",
    "crafted": "One crafted model for all (e): traps that fire on a picture",
}


def shown(value: float | None, unit: str) -> str:
    """A value for people."""
    if value is None:
        return "not known"
    if unit == "share":
        return f"{100 * value:.1f} %"
    return f"{value:.1f} dB" if unit == "dB" else f"{value:.3f}"


def page(title: str, lead: str, found: list[Figure], facts: dict[str, str]) -> str:
    """One HTML document that asks for no other file."""
    environment = Environment(
        loader=PackageLoader("pchmr", "web"), autoescape=True, undefined=StrictUndefined
    )
    style = resources.files("pchmr.web").joinpath("style.css").read_text(encoding="utf-8")
    sections = []
    for attack, about in ABOUT.items():
        rows = [
            {
                "name": figure.name,
                "means": figure.means,
                "value": shown(figure.value, figure.unit),
                "interval": " to ".join(shown(v, figure.unit) for v in figure.interval),
                "chance": shown(figure.chance, figure.unit),
                "ceiling": shown(figure.ceiling, figure.unit),
                "n": figure.n,
            }
            for figure in found
            if figure.attack == attack
        ]
        sections.append((about, rows))
    return environment.get_template("audit.html.j2").render(
        title=title,
        lead=lead,
        sections=sections,
        limits=LIMITS,
        facts=facts,
        style=Markup(style),
    )
