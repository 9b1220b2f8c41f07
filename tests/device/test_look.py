"""One look for all pages: colors from one sheet, readable in light and dark."""

import re
from itertools import product

import pytest

from pchmr.web.bundles import WEB

AA = 4.5  # WCAG 2.2, 1.4.3: contrast of text
AA_PARTS = 3.0  # 1.4.11: of what is no text, such as the line around the focus
INKS = (
    "ink", "soft", "centralized", "federated", "before", "good", "bad", "stale", "reference",
)  # fmt: skip
PAPERS = ("paper", "panel")
BLOCK = re.compile(r":root\s*\{([^}]*)\}")
VARIABLE = re.compile(r"--([a-z-]+):\s*(#[0-9a-f]{6})")


def themes() -> dict[str, dict[str, str]]:
    light, dark = (dict(VARIABLE.findall(block)) for block in BLOCK.findall(sheet("style.css")))
    return {"light": light, "dark": {**light, **dark}}


def sheet(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


def luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_known_pairs() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_on_every_ground(theme: str) -> None:
    colors = themes()[theme]
    pairs = [*product(INKS, PAPERS), ("reference", "reference-panel"), ("ink", "reference-panel")]
    low = {
        (ink, paper): round(found, 2)
        for ink, paper in pairs
        if (found := contrast(colors[ink], colors[paper])) < AA
    }
    assert not low


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_focus_can_be_seen(theme: str) -> None:
    colors = themes()[theme]
    assert all(contrast(colors["centralized"], colors[paper]) >= AA_PARTS for paper in PAPERS)


@pytest.mark.parametrize("page", ["live.html", "review.html"])
def test_pages_share_the_look_and_run_nothing_of_their_own(page: str) -> None:
    text = sheet(page)
    assert 'href="style.css"' in text and 'href="pages.css"' in text
    assert "<style" not in text and " style=" not in text and " onclick=" not in text
    assert re.findall(r"<script[^>]*>", text) == [
        f'<script type="module" src="{page.removesuffix(".html")}.js">'
    ]
    assert 'role="status"' in text and 'lang="en"' in text and "<noscript>" in text
    assert not re.findall(r"https?://", text)


def test_only_the_shared_sheet_names_colors_of_text() -> None:
    found = re.findall(r"(?<!-)color:\s*(#[0-9a-f]{3,6})", sheet("pages.css"))
    assert not found
