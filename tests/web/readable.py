"""What a browser makes of a page: does it scroll sideways, can its text be read, what did it ask.

Contrast is computed from the styles that the browser computed, as WCAG 2.2 (1.4.3) defines it, over
the grounds behind each text; controls that are off are exempt there, and here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chromium import browsing, read_traffic

PHONE = {"width": 390, "height": 844}
SCHEMES = ("light", "dark")
LOW = """() => {
  const numbers = (color) => {
    const found = (color.match(/-?[\\d.]+(e-?\\d+)?/g) ?? []).map(Number);
    const scale = color.startsWith("color(") ? 255 : 1;
    const [r, g, b, a = 1] = found;
    return [r * scale, g * scale, b * scale, a];
  };
  const over = (top, under) => {
    const share = top[3];
    return [0, 1, 2].map((at) => share * top[at] + (1 - share) * under[at]).concat(1);
  };
  const parents = (node) => node ? [node, ...parents(node.parentElement)] : [];
  const ground = (node) => parents(node).reverse().reduce(
    (under, one) => over(numbers(getComputedStyle(one).backgroundColor), under),
    [255, 255, 255, 1]);
  const luminance = (color) => color.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ratio = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const low = [];
  let count = 0;
  for (let text = walk.nextNode(); text; text = walk.nextNode()) {
    const node = text.parentElement, style = getComputedStyle(node);
    const seen = node.checkVisibility({opacityProperty: true, visibilityProperty: true});
    const exempt = node.closest("button:disabled, label:has(input:disabled), script, noscript");
    if (!text.data.trim() || !seen || exempt || !node.getClientRects().length) continue;
    count += 1;
    const inSvg = node instanceof SVGElement, color = numbers(inSvg ? style.fill : style.color);
    const veil = parents(node).reduce((all, one) => all * getComputedStyle(one).opacity, 1);
    const under = ground(node), ink = over([...color.slice(0, 3), color[3] * veil], under);
    const size = parseFloat(style.fontSize), bold = style.fontWeight >= 700;
    const least = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    const found = ratio(ink, under);
    if (found < least) low.push(`${found.toFixed(2)} < ${least}: ${text.data.trim().slice(0, 60)}`);
  }
  return [count, [...new Set(low)]];
}"""
WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const clipped = (node) => node && (
    getComputedStyle(node).overflowX !== "visible" || clipped(node.parentElement));
  return [...document.body.querySelectorAll("*")]
    .filter((one) => one.getBoundingClientRect().right > width + 1 && !clipped(one.parentElement))
    .map((one) => `${one.tagName}.${one.className}: ${one.getBoundingClientRect().right}`);
}"""


def low_contrast(page, scheme: str) -> list[str]:  # type: ignore[no-untyped-def]
    """Texts of less contrast than AA asks for; at least some text is there."""
    page.wait_for_timeout(400)  # colors of controls change over a quarter of a second
    count, low = page.evaluate(LOW)
    assert count > 5
    return [f"{scheme}: {one}" for one in low]


def too_wide(page) -> list[str]:  # type: ignore[no-untyped-def]
    """What makes the page scroll sideways."""
    return page.evaluate(WIDE)


@contextmanager
def on_a_phone(folder: Path, origin: str | None = None) -> Iterator[object]:
    """A page that will be opened on a phone; when it is closed, it has asked for nothing elsewhere.

    An address below the origin may be asked for; without one, files on this machine.
    """
    with browsing(folder) as page:
        page.set_viewport_size(PHONE)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        yield page
        near = (origin or "file:", "data:", "blob:")
        assert not [url for url in asked if not url.startswith(near)]
    traffic = read_traffic(folder / "net.json")
    assert not traffic.far_sockets(origin or "")
    assert not (traffic.beyond(origin) if origin else traffic.requests)
