"""Human mesh recovery for people whose images must not leave their device."""

import os

# Libraries that report home read these before they are imported; none may.
for _name in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.setdefault(_name, "1")
