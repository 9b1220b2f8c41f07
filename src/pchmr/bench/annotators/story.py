"""The demo's part on annotation: pictures, overlays and side views for its report, in a minute.

`tell` labels held-out people from their pictures alone, with depth and without, and says how far
off the labels are, which only rendered people can tell.
"""

from base64 import b64encode

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from pchmr.annotate.deposer import MODES, Annotator, Fit
from pchmr.annotate.overlay import png, sheet, side_view
from pchmr.annotate.pictures import PictureReader, stack
from pchmr.bench.annotators.images import IMAGE_SIZE, meshes
from pchmr.bench.annotators.presence import picture
from pchmr.bench.annotators.scores import score
from pchmr.bench.annotators.tables import KEYPOINT, STRONG
from pchmr.body import load_body
from pchmr.config import DataOptions
from pchmr.data import load_people
from pchmr.perception.embedded import Embedded

NUM_PEOPLE = 16
NUM_SHOWN = 4
HEIGHT = 224
WORDS = {STRONG: "label without depth", KEYPOINT: "label with depth"}


def tell(seed: int = 0, num_people: int = NUM_PEOPLE) -> Markup:
    """A section of the report.

    Args:
        seed: Draws the people of domain B.
        num_people: How many are labeled.
    """
    annotator = Annotator(load_body())
    data = DataOptions(num_test_samples=num_people, image_size=IMAGE_SIZE)
    people = load_people(data, "test", body=annotator.body, seed=seed, image_size=IMAGE_SIZE)
    images = [picture(people, row) for row in range(num_people)]
    reader = PictureReader(Embedded())
    seen = stack([reader.observe_image(image) for image in images])
    fits = {mode: annotator.fit(seen, MODES[mode]) for mode in (STRONG, KEYPOINT)}
    truth = meshes(annotator.body, people, num_people)
    rows = []
    for mode, fit in fits.items():
        found = score(annotator, fit, truth)
        names = ("mpjpe_mm", "pa_mpjpe_mm", "mpvpe_mm")
        rows.append((mode, [f"{float(found[name].mean()):.0f}" for name in names]))
    shown = [
        {words: b64encode(png(part)).decode() for words, part in parts.items()}
        for row in range(min(NUM_SHOWN, num_people))
        for parts in [_parts(annotator, fits, images[row], truth[row], row)]
    ]
    environment = Environment(
        loader=PackageLoader("pchmr", "web"), autoescape=True, undefined=StrictUndefined
    )
    template = environment.get_template("annotation.html.j2")
    return Markup(template.render(count=num_people, rows=rows, people=shown))


def _parts(
    annotator: Annotator, fits: dict[str, Fit], image: np.ndarray, truth: Tensor, row: int
) -> dict[str, np.ndarray]:
    """Overlay and side view of every mode, then the truth from the side, each with its words."""
    parts = {}
    faces = annotator.body.faces
    for mode, fit in fits.items():
        seen = fit.objective.evidence
        camera = torch.eye(3)
        camera[[0, 1], [0, 1]] = seen.focal[row] * fit.state.log_focal[row].exp()
        camera[:2, 2] = seen.center[row]
        mesh = annotator.vertices(fit)[row : row + 1]
        parts[WORDS[mode]] = sheet(image, mesh, faces, camera, HEIGHT)
    return {**parts, "truth": side_view(truth, faces, HEIGHT)}
