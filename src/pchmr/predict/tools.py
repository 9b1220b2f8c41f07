"""What a prediction is made with: the network, who finds people, and what fits the body to them."""

from dataclasses import dataclass

from pchmr.annotate.deposer import Annotator
from pchmr.annotate.judging import Judge
from pchmr.annotate.observed import Observations
from pchmr.annotate.quality import load_predictors
from pchmr.annotate.sightings import Found, everybody, observed
from pchmr.body import BodyModel, load_body
from pchmr.body.joints import COCO_23
from pchmr.compute import pick_device
from pchmr.config import PredictConfig
from pchmr.data.exif import FocalLength
from pchmr.inference import Predictor
from pchmr.models import load_model
from pchmr.models.checkpoint import read_checkpoint
from pchmr.perception import load_keypoint_prior
from pchmr.perception.detection import PeopleFinder
from pchmr.perception.fetched import missed, usual_prior
from pchmr.perception.interfaces import Box, Detector, Image, KeypointPrior, PersonPrior
from pchmr.perception.people import PeoplePrior

FITTED = "deposer-keypoint"  # mode of the fit to a network that sees people in space
EMBEDDED = "embedded"  # has seen rendered people only


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What predicts.

    Attributes:
        predictor: The HMR network, and the body of its meshes.
        prior: Sees people's keypoints.
        detector: Finds people, where the prior does not.
        annotator: Fits the body to what the prior sees; None leaves the network's word as it is.
        judge: Says what becomes of a fit.
        notes: What a user should know before results are looked at.
    """

    predictor: Predictor
    prior: KeypointPrior
    detector: Detector | None = None
    annotator: Annotator | None = None
    judge: Judge | None = None
    notes: tuple[str, ...] = ()

    @property
    def body(self) -> BodyModel:
        """Whose meshes come out."""
        return self.predictor.body

    def everybody(self, image: Image) -> list[Found]:
        """The people of a picture, the surest first."""
        return everybody(image, self.prior, self.detector)

    def boxed(self, image: Image, box: Box) -> Found:
        """The person of a box."""
        prior = self.prior
        return Found(box, prior.see(image, box) if isinstance(prior, PeoplePrior) else None)

    def observed(self, image: Image, found: Found, focal: FocalLength | None) -> Observations:
        """What is seen of one of them."""
        return observed(image, self.prior, found, focal)


def open_tools(config: PredictConfig) -> Tools:
    """Loads what a config asks for: photo-trained where it was fetched, else what is shipped."""
    options = config.model_options
    body = load_body(options.body).to(pick_device(config.device))
    model, started_from = load_model(options, body.hierarchy, seed=0)
    model = model.to(body.v_template.device).eval()
    usual = usual_prior()
    prior, has_photo_prior = load_keypoint_prior(usual), usual != EMBEDDED
    finder = PeopleFinder(prior) if isinstance(prior, PersonPrior) else None
    refines = config.refine and has_photo_prior and body.has_regressor(COCO_23)
    alone = "" if refines else _of_weights(config, started_from["kind"])
    notes = (alone, "" if has_photo_prior else missed())
    return Tools(
        predictor=Predictor(model, body, model.image_size),
        prior=prior,
        detector=finder,
        annotator=Annotator(body) if refines else None,
        judge=_judge(prior) if refines else None,
        notes=tuple(note for note in notes if note),
    )


def _judge(prior: KeypointPrior) -> Judge:
    """With the thresholds that labels have."""
    source = prior.provenance.name
    return Judge(predictors=load_predictors(), mode=FITTED, source=source)


def _of_weights(config: PredictConfig, kind: str) -> str:
    """One line on what to expect of the network; may be empty."""
    synthetic = kind == "shipped"
    checkpoint = config.model_options.checkpoint
    if kind == "checkpoint" and checkpoint:
        synthetic = bool(read_checkpoint(checkpoint)[1].get("synthetic"))
    if kind == "random":
        return "note: these weights are random, the mesh says nothing about the picture"
    if synthetic:
        return "note: this model saw rendered people only; photos are out of its domain"
    return ""
