"""A picture of a plain figure, and a model that sees nothing but its color."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
