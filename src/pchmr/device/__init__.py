"""What runs on a person's own device: export to ONNX, and the runtime that reads it.

onnxruntime sends usage data to its maker unless told not to before it is imported; nothing leaves
a device of ours, so it is told here.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
