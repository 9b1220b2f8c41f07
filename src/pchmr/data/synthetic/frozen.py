"""The frozen worlds by name, and the code that is known to render them.

A world is named by the hash of the source that first rendered it. `SOURCE_SHA256` is today's
source; `tests/data/synthetic/test_frozen.py` holds rendered rows of every domain against it. After
a change that keeps those rows, record the new source here; after one that changes them, raise
`RECIPE_VERSION` and name the worlds anew. Code that is in neither state names its own worlds.
"""

SOURCE_SHA256 = "90330124067d845c792fe7e21551ae9084e0029009564b6c62c7fccbf13f4e77"
WORLD_SHA256 = {
    1: {
        "A": "dda51c1e47564b28ea181ea53cb0cc111886075065bf1ff435f7151b926422df",
        "B": "b530f132c4161f2ffa29b0489dcf3c13a261b8da438d0aed5a980c0b0b6b9c32",
        "V": "dda51c1e47564b28ea181ea53cb0cc111886075065bf1ff435f7151b926422df",
    },
    2: dict.fromkeys("ABV", "01eba54e265b83688768af89557a91e47567f03ac5bb6de1373c190612d9bb2d"),
}
