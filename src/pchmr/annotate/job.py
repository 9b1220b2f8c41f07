"""What `pchmr annotate` does: clips in, a private folder of labels out, one failure at a time."""

import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray

from pchmr.annotate.deposer import Annotator, Start
from pchmr.annotate.fitting import Labeler
from pchmr.annotate.judging import OBSERVED
from pchmr.annotate.labels import LABEL_VERSION, LEFT_OUT, LabelFolder
from pchmr.annotate.modes import best_mode
from pchmr.annotate.observed import Observations
from pchmr.annotate.observed_files import ObservedFile, read_observed
from pchmr.annotate.overlay import overlay_png, overlays_png
from pchmr.annotate.pictures import GUESS, Glimpse, PictureReader
from pchmr.annotate.plausibility import frames_text
from pchmr.annotate.prior import load_prior, weakness
from pchmr.annotate.quality import ASSET, load_predictors
from pchmr.body import load_body
from pchmr.config import AnnotateConfig, SettingError, UserError
from pchmr.data.labels import LabelKey, without_bystanders
from pchmr.data.pictures import find_pictures
from pchmr.door import Json
from pchmr.perception.detection import PRESENCE
from pchmr.perception.fetched import missed
from pchmr.progress import printable, say
from pchmr.runs import alone, file_sha256

OBSERVED_CLIP = "labels"


@alone
def run(config: AnnotateConfig) -> Path:
    """Labels observations, photos or a video; returns the private folder.

    Finished clips of an earlier run with the same input and settings are kept. In a folder of
    photos a failure is noted in the manifest and the rest goes on.

    Raises:
        SettingError: A setting that cannot be used.
        UserError: No clip could be labeled; the message is the first clip's.
    """
    job = _Job(config)
    if config.observations is not None:
        job.label_file(config.observations)
    else:
        if config.keypoint_prior is None and (note := missed()):
            say(note)
        job.label_pictures()
    job.tell()
    return job.folder.path


class _Job:
    """One run over clips."""

    def __init__(self, config: AnnotateConfig) -> None:
        self.config = config
        if config.device == "cuda" and not torch.cuda.is_available():
            raise SettingError("--device cuda: no CUDA device is visible; use --device cpu")
        use_cuda = config.device != "cpu" and torch.cuda.is_available()
        self.device = torch.device("cuda" if use_cuda else "cpu")
        body = load_body(config.body).to(self.device)
        pictured = config.observations is None
        self.reader = PictureReader.open(config, body) if pictured else None
        self.prior = load_prior(config.pose_prior)
        if config.pose_prior and (why := weakness(self.prior)):
            say(f"--pose-prior {config.pose_prior} is weak: {why}; add motion data")
        self.annotator = Annotator(body, self.prior)
        self.predictors = load_predictors()
        self.predictors_sha256 = [file_sha256(ASSET)]
        if config.error_predictor is not None:
            self.predictors |= load_predictors(config.error_predictor)
            self.predictors_sha256.append(file_sha256(config.error_predictor))
        self.folder = LabelFolder.open(config.output)
        self.kept = 0
        self.failed: set[str] = set()

    def label_file(self, path: Path) -> None:
        """Labels a file of observations as the clip `labels`, drawn over its pictures if given."""
        config = self.config
        seen = read_observed(path, config.pictures, is_clip=config.consecutive)
        ignored = seen.observations.reading.ignored
        if ignored:
            more = " ..." if len(ignored) > 6 else ""
            say(
                f"{OBSERVED_CLIP}: keypoints without a point on the body are not used: "
                f"{', '.join(ignored[:6])}{more}"
            )
        for note in seen.notes:
            say(f"{OBSERVED_CLIP}: {note}")
        key = self._key(seen.sha256)
        if self.folder.is_finished(OBSERVED_CLIP, key):
            self.kept += 1
            return
        self._check_own(path, key)
        self._label(OBSERVED_CLIP, seen.observations, key, {"source": OBSERVED}, path, seen)

    def _check_own(self, path: Path, key: LabelKey) -> None:
        row = self.folder.rows.get(OBSERVED_CLIP)
        if row is None:
            return
        other = row.get("source") or row.get("observations")
        same = row.get("key", {}).get("input_sha256") == key.get("input_sha256")
        if other is not None and other != str(path.resolve()) and not same:
            raise SettingError(
                f"--output {self.folder.path} already holds labels of {other}: give another folder"
            )

    def label_pictures(self) -> None:
        """Labels every photo or video; a failure is noted and the rest goes on."""
        assert self.reader is not None and self.config.images is not None
        first: UserError | None = None
        done = 0
        pictures = find_pictures(self.config.images)
        if pictures.left_out:
            say(pictures.left_out)
        self.folder.leave_out(pictures.left_out, self.config.images.resolve())
        for name, path in zip(pictures.names, pictures.files, strict=True):
            source, digest = path.resolve(), _digest(path)
            clip = self.folder.name_for(name, source, digest)
            try:
                key = self._key(digest)
                if self.folder.is_finished(clip, key):
                    self.kept += 1
                else:
                    seen = self.reader.observe(path)
                    self._label(clip, seen.observations, key, self.reader.provenance, path, seen)
                done += 1
            except (UserError, OSError, RuntimeError) as error:
                told = _told(path, error)
                first = first or told
                self.failed.add(clip)
                self.folder.fail(clip, str(told), source)
                kept = self.folder.is_whole(clip)
                more = " (the labels of an earlier run are kept)" if kept else ""
                say(f"{clip}: {told}{more}")
        if first is not None and not done:
            raise first

    def _key(self, input_sha256: str) -> LabelKey:
        """What decides a clip's labels."""
        config = self.config
        return {
            "input_sha256": input_sha256,
            "label_version": LABEL_VERSION,
            "predictors_sha256": self.predictors_sha256,
            "presence_sha256": file_sha256(PRESENCE),
            "mode": config.mode,
            "consecutive": config.consecutive,
            "bbox": config.bbox,
            "person": config.person,
            "body_sha256": self.annotator.body.sha256,
            "pose_prior_sha256": self.prior.sha256,
            "accept_mm": config.accept_mm,
            "reject_mm": config.reject_mm,
            "priors": self.reader.provenance if self.reader else {},
        }

    def _label(
        self,
        clip: str,
        observations: Observations,
        key: LabelKey,
        provenance: Json,
        path: Path,
        seen: Glimpse | ObservedFile,
    ) -> None:
        began = time.perf_counter()
        glimpse = seen if isinstance(seen, Glimpse) else None
        mode = best_mode(observations) if self.config.mode == "auto" else self.config.mode
        labeler = Labeler(
            annotator=self.annotator,
            predictors=self.predictors,
            mode=mode,
            batch_size=self.config.batch_size,
            accept_mm=self.config.accept_mm,
            reject_mm=self.config.reject_mm,
            source=self.reader.source if self.reader else OBSERVED,
            consecutive=self.config.consecutive if glimpse is None else glimpse.is_clip,
        )
        if mode == "smplifyx" and observations.intrinsics is not None:
            say(
                f"{clip}: smplifyx ignores the given intrinsics; --mode smplifyx-given-focal "
                "takes them"
            )
        if glimpse is not None:
            _tell(clip, glimpse)
        start = None if glimpse is None else glimpse.start
        starts = None if start is None else partial(_rows_of, start)
        arrays = labeler.label(observations, starts)
        arrays |= {} if glimpse is None else _people(glimpse)
        for words in raised(arrays):
            say(f"{clip}: {words}")
        picture = self._picture(seen, arrays)
        self.folder.write(
            clip,
            arrays,
            key,
            picture,
            mode=mode,
            provenance=provenance,
            **_origin(path, glimpse),
            seconds=round(time.perf_counter() - began, 3),
            **clip_summary(arrays),
        )

    def _picture(self, seen: Glimpse | ObservedFile, arrays: dict[str, ndarray]) -> bytes | None:
        """The first frame's people as a PNG without bystanders; None if there is none to draw.

        Of a file of observations some frames, one below the other.
        """
        if isinstance(seen, ObservedFile):
            return overlays_png(seen.pictures, arrays, self.annotator.body.faces)
        picture, count = seen.picture, 1 if seen.is_clip else len(arrays["vertices"])
        if seen.bystanders is not None:
            picture = without_bystanders(picture, seen.bystanders[0])
        faces = self.annotator.body.faces
        return overlay_png(picture, arrays["vertices"][:count], faces, arrays["intrinsics"][0])

    def tell(self) -> None:
        """One line about what was made."""
        rows = [row for row in self.folder.rows.values() if "failed" not in row]
        total: Counter[str] = Counter()
        for row in rows:
            total.update(row["status"])
        noted = {clip for clip, row in self.folder.rows.items() if "failed" in row} - {LEFT_OUT}
        failed = len(self.failed | noted)
        words = ", ".join(f"{count} {status}" for status, count in sorted(total.items()))
        more = f", {failed} clips failed (see manifest.jsonl)" if failed else ""
        kept = f", {self.kept} kept from before" if self.kept else ""
        print(f"{len(rows)} clips: {words or 'nothing'}{kept}{more}")
        print(printable(f"labels: {self.folder.path}"))


def _digest(path: Path) -> str:
    """Hash of a file; empty where it cannot be read, which labeling it will tell."""
    try:
        return file_sha256(path)
    except OSError:
        return ""


def _told(path: Path, error: Exception) -> UserError:
    """A failure in one line, whoever raised it."""
    if isinstance(error, UserError):
        return error
    words = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"cannot label {path}: {words}; leave the file out, or save it anew")


def _origin(path: Path, seen: Glimpse | None) -> dict[str, str | None]:
    """Where a clip comes from: a picture or video, or a file of observations."""
    place = str(path.resolve())
    if seen is None:
        return {"source": None, "observations": place}
    return {"source": place, "focal": seen.focal}


def _tell(clip: str, seen: Glimpse) -> None:
    """Says what had to be assumed of a picture."""
    if seen.focal == GUESS:
        say(f"{clip}: no focal length in EXIF, a common one is assumed")
    if seen.note:
        say(f"{clip}: {seen.note}")


def _rows_of(start: Start, rows: slice) -> list[Start]:
    return [start.take(rows)]


def _people(seen: Glimpse) -> dict[str, ndarray]:
    """Who the frames show, and which cells of them show somebody else."""
    found = {"track_id": seen.numbers, "bystanders": seen.bystanders}
    return {name: value for name, value in found.items() if value is not None}


def raised(arrays: dict[str, ndarray]) -> list[str]:
    """One line for each doubt that raised predicted errors, with its frames."""
    found: dict[str, list[int]] = {}
    for frame, doubt in enumerate(arrays["doubt"].tolist()):
        if doubt:
            found.setdefault(doubt, []).append(frame)
    count = len(arrays["doubt"])
    return [f"{frames_text(rows, count)}: {doubt}" for doubt, rows in found.items()]


def clip_summary(arrays: dict[str, ndarray]) -> Json:
    """What the manifest says of a clip: frames, verdicts, predicted error, residuals."""
    residuals = {
        name.removeprefix("residual_"): round(float(value.mean()), 4)
        for name, value in arrays.items()
        if name.startswith("residual_")
    }
    predicted = arrays["predicted_error_mm"]
    known = predicted[np.isfinite(predicted)]
    return {
        "num_frames": len(predicted),
        "calibrated": bool(arrays["calibrated"].all()),
        "status": dict(Counter(arrays["status"].tolist())),
        "predicted_error_mm": round(float(known.mean()), 1) if len(known) else None,
        "joint_std_mm": round(1000 * float(arrays["joint_std"].mean()), 1),
        "residuals": residuals,
    }
