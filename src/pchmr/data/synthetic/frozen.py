"""The frozen worlds by name, and the code that is known to render them.

A world is named by the hash of the source that first rendered it. `SOURCE_SHA256` is today's
source; `tests/data/synthetic/test_frozen.py` holds rendered rows of every domain against it. After
a change that keeps those rows, record the new source here; after one that changes them, raise
`RECIPE_VERSION` and name the worlds anew. Code that is in neither state names its own worlds.
"""

SOURCE_SHA256 = "224afdec7db7cdd28b6b0d486ea66f2f608cdbee75aff00f972a54a9cc59bccf"
WORLD_SHA256 = {
    1: {
        "A": "dda51c1e47564b28ea181ea53cb0cc111886075065bf1ff435f7151b926422df",
        "B": "b530f132c4161f2ffa29b0489dcf3c13a261b8da438d0aed5a980c0b0b6b9c32",
        "V": "dda51c1e47564b28ea181ea53cb0cc111886075065bf1ff435f7151b926422df",
    },
    2: {
        "A": "01eba54e265b83688768af89557a91e47567f03ac5bb6de1373c190612d9bb2d",
        "B": "72dfdb652c307f3605874e95cf4e3bbd6583f8e272cd1a7e1077aedc4decdb5d",
        "V": "01eba54e265b83688768af89557a91e47567f03ac5bb6de1373c190612d9bb2d",
        "W": "224afdec7db7cdd28b6b0d486ea66f2f608cdbee75aff00f972a54a9cc59bccf",
    },
}
