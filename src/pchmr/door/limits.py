"""Every limit on foreign files, in one place: bytes, elements, members, depth, time."""

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

TEXT_BYTES = 64 * MIB
"""Of a JSON or JSONL file."""
JSON_DEPTH = 64
JSON_DIGITS = 20
"""Of one integer; more than 64 bits have no use and no float."""

PICKLE_BYTES = 512 * MIB
PICKLE_OPCODES = 1_000_000
PICKLE_KEY_BITS = 60
"""Of an integer key: larger ones can be made to hash alike."""
CHAIN_DEPTH = 16
"""Of chumpy objects around an array."""

ARRAYS_BYTES = GIB
"""Of all arrays that one file may unpack to."""
DENSE_BYTES = 256 * MIB
"""Of a sparse matrix written out."""
ARRAY_HEADER_BYTES = 10_000
ARRAY_AXES = 16
TEXT_ITEM_BYTES = 16 * KIB

ARCHIVE_BYTES = 2 * GIB
ARCHIVE_MEMBERS = 20_000
ARCHIVE_DIRECTORY_BYTES = 4 * MIB
ARCHIVE_RATIO = 100
ARCHIVE_FREE_BYTES = 64 * MIB
"""What an archive may unpack to whatever the ratio: constant arrays compress well."""

TENSORS_BYTES = 4 * GIB
MAPPED_BYTES = 64 * GIB
"""Of a file of tensors that stays on disk."""
TENSOR_HEADER_BYTES = 16 * MIB

PHOTO_BYTES = 64 * MIB
PHOTO_PIXELS = 50_000_000
VIDEO_BYTES = 2 * GIB
MODEL_BYTES = 16 * GIB
"""Of a TorchScript or ONNX file."""

CHILD_BYTES = 4 * GIB
"""Address space of a process that parses with a library in C."""
CHILD_SECONDS = 120
"""CPU seconds of such a process, and seconds it may be silent."""
CHILD_HEADER_BYTES = 64 * KIB
CHILD_RECORD_BYTES = 256 * MIB

MESH_VERTICES = 50_000
MESH_NEIGHBORS = 32
"""Mean number of neighbors of a vertex; on a closed triangle mesh it is six."""
