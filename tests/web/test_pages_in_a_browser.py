"""Every page in a real browser: on a phone, in light and dark, asking nobody for anything."""

import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest
from chromium import need_chromium, wait_for
from readable import SCHEMES, low_contrast, on_a_phone, too_wide

from pchmr import demo
from pchmr.bench.live.labeled import write_labels
from pchmr.body import BodyModel
from pchmr.config import DemoConfig, LiveConfig, ReviewConfig
from pchmr.device import live, review
from pchmr.device.bundles import PagesError, page_files
from pchmr.device.local_server import LocalServer, Site
from pchmr.report import write_report
from pchmr.report.page import results_section

pytestmark = pytest.mark.browser
READY = "window.pchmr?.state.status === 'ready'"
ROOT = Path(__file__).resolve().parents[2]
DOCS = ("index.html", "api.html", "privacy.html", "deploying.html", "guides/own-pictures.html")


def check(address: str, folder: Path, origin: str | None = None, ready: str = "true") -> None:
    """Fails where the page scrolls sideways, cannot be read, or asks another for something."""
    with on_a_phone(folder, origin) as page:
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.goto(address)
            wait_for(page, ready)
            found = too_wide(page) + low_contrast(page, scheme)
            page.screenshot(path=folder / f"{scheme}.png", full_page=True)
            assert not found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_chromium()
    return demo.run(DemoConfig(quick=True, output=tmp_path_factory.mktemp("demo") / "demo"))


def test_the_demos_page(told: Path, tmp_path: Path) -> None:
    check(told.as_uri(), tmp_path)


def test_the_page_of_results(tmp_path: Path) -> None:
    need_chromium()
    page = write_report([], tmp_path / "results.html", [results_section(ROOT / "results")])
    check(page.as_uri(), tmp_path)


def test_a_page_that_is_hard_to_read_would_be_seen(tmp_path: Path) -> None:
    """The witness: too wide, too pale, and asking for a picture elsewhere."""
    need_chromium()
    pale = "".join(f"<p style='color:#999'>pale {number}</p>" for number in range(9))
    wide = "<div style='width:500px'>wide</div><img src='http://127.0.0.1:9/far.png'>"
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><body>{pale}{wide}")
    with pytest.raises(AssertionError, match="far"), on_a_phone(tmp_path) as opened:
        opened.goto(page.as_uri())
        assert too_wide(opened) == ["DIV.: 508"]
        assert len(low_contrast(opened, "light")) == 9


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_chromium()
    if find_spec("mkdocs") is None:
        pytest.skip("needs mkdocs: pip install 'pchmr[docs]'")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


@pytest.mark.parametrize("name", DOCS)
def test_pages_of_the_documentation(site: Path, name: str, tmp_path: Path) -> None:
    check((site / name).as_uri(), tmp_path)


def test_the_live_and_the_review_page(tmp_path: Path, body: BodyModel) -> None:
    need_chromium()
    labels = write_labels(tmp_path, body, 3).path
    config = ReviewConfig(labels=labels)
    try:
        pages = [
            Site.of_table({**page_files("live", live.SCRIPTS), **live.contents(LiveConfig())}),
            review.site_of(review.open_desk(config), page_files("review", review.SCRIPTS)),
        ]
    except PagesError as error:
        pytest.skip(str(error))
    for site in pages:
        server = LocalServer(site)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        check(server.address, tmp_path / server.origins[0][-5:], server.origins[0], READY)
        server.shutdown()
        server.server_close()
