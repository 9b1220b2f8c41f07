"""Makes rounding to ring elements the same in every process, so that two sums can be compared.

Masks, keys and shares keep the system's randomness: only the encoding's own draw is replaced.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from types import SimpleNamespace

ENCODING = "pchmr.federated.secure.encoding"


class Exactly(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != ENCODING:
            return None
        spec = PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            module.os = SimpleNamespace(urandom=bytes)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Exactly())
