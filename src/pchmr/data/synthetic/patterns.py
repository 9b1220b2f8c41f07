"""Procedural patterns in metres: cloth, floors and walls without texture files."""

PATTERNS = {
    "plain": 0,
    "rows": 1,
    "columns": 2,
    "checker": 3,
    "noise": 4,
    "dots": 5,
    "tiles": 6,
    "planks": 7,
    "bricks": 8,
}
