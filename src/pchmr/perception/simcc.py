"""RTMPose as ONNX: one histogram a keypoint and axis instead of heatmaps (SimCC)."""

from pathlib import Path

import numpy as np
import onnxruntime
from jaxtyping import Float
from numpy import ndarray

from pchmr.config import SettingError
from pchmr.door import require_file
from pchmr.door.limits import MODEL_BYTES
from pchmr.perception.crops import IMAGENET_MEAN, IMAGENET_SD, Crop, normalized
from pchmr.perception.interfaces import Box, Image, Provenance, weights_sha256
from pchmr.perception.names import MMPOSE


class RtmPose:
    """Top-down RTMPose with two outputs, x and y histograms of any resolution; input is RGB."""

    def __init__(self, weights: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            require_file(weights, MODEL_BYTES)
            self.session = onnxruntime.InferenceSession(
                str(weights), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises types of its own on damaged files
            first = str(error).strip().splitlines()[0]
            raise SettingError(f"{weights} is no ONNX model: {first}") from None
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(outputs) != 2:
            raise SettingError(
                f"{weights} has {len(outputs)} outputs, a SimCC model has two: export RTMPose with "
                "simcc_x and simcc_y"
            )
        self.input = inputs[0].name
        self.weights = weights
        size = inputs[0].shape[2:]
        if len(inputs) != 1 or len(size) != 2 or not all(isinstance(n, int) for n in size):
            raise SettingError(
                f"{weights} takes pictures of {inputs[0].shape}: export RTMPose with one input of "
                "fixed height and width"
            )
        self.height, self.width = size
        count = self._histograms(np.zeros((1, 3, self.height, self.width), np.float32))[0].shape[0]
        if count not in MMPOSE:
            known = ", ".join(str(n) for n in MMPOSE)
            raise SettingError(
                f"{weights} gives {count} keypoints, expected one of {known}: take a COCO, "
                "Halpe-26 or COCO-WholeBody file"
            )
        self.names: tuple[str, ...] = MMPOSE[count]
        self.provenance = Provenance(
            name="rtmpose-onnx", license="Apache-2.0", sha256=weights_sha256(weights)
        )

    def keypoints(self, image: Image, box: Box) -> Float[ndarray, "keypoints 3"]:
        """See `KeypointPrior`."""
        crop = Crop.around(box, self.width, self.height)
        pixels = normalized(crop.cut(image), IMAGENET_MEAN, IMAGENET_SD).numpy()
        x, y = self._histograms(pixels)
        x, y = x[: len(self.names)], y[: len(self.names)]
        cells = np.stack([x.argmax(axis=-1), y.argmax(axis=-1)], axis=-1).astype(np.float64)
        found = crop.locate(cells, x.shape[-1], y.shape[-1])
        confidence = np.clip(np.minimum(x.max(axis=-1), y.max(axis=-1)), 0, 1)
        return np.concatenate([found, confidence[:, None]], axis=-1)

    def _histograms(self, pixels: ndarray) -> tuple[ndarray, ndarray]:
        """Histograms (K, X) and (K, Y) of a batch of one.

        Raises:
            SettingError: The outputs are none, or those of y come first.
        """
        try:
            found = [np.asarray(part) for part in self.session.run(None, {self.input: pixels})]
        except Exception as error:  # onnxruntime raises types of its own
            first = str(error).strip().splitlines()[0]
            raise SettingError(
                f"{self.weights} cannot be run on a picture: {first}; export RTMPose for one RGB "
                "picture in float32"
            ) from None
        x, y = found
        ratios = {
            part.shape[-1] / side
            for part, side in zip(found, (self.width, self.height), strict=True)
        }
        if x.ndim != 3 or x.shape[:2] != y.shape[:2] or len(x) != 1 or len(ratios) != 1:
            raise SettingError(
                f"{self.weights} gives {x.shape} and {y.shape} for {self.width} x {self.height} "
                "pixels, which is no SimCC: export simcc_x, then simcc_y, both (1, keypoints, bins)"
            )
        return x[0], y[0]
