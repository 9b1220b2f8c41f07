"""Licence texts of the npm packages that are bundled into the pages.

Standard library only, as `pchmr.workshop.pages`. Decides nothing: a package without a text, and
without a known holder of its rights, stops the build.
"""

import json
from pathlib import Path

NAMES = ("LICENSE", "LICENCE", "COPYING")
HOLDERS = {"onnxruntime-web": "Microsoft Corporation"}
"""Whose work a package is that packs no text; its files' first lines say so."""
MIT = """MIT License

Copyright (c) {holder}

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE."""


class LicenseMissing(RuntimeError):
    """A package without a licence text; the message is one line."""


def license_of(package: Path, name: str) -> str:
    """Name, version, kind and text of a package's licence.

    Args:
        package: Folder that npm has laid.
        name: Of the package.

    Raises:
        LicenseMissing: It packs no text, and none can be written for it.
    """
    about = json.loads((package / "package.json").read_text(encoding="utf-8"))
    packed = sorted(p for p in package.iterdir() if p.stem.upper() in NAMES and p.is_file())
    words = "\n\n".join(path.read_text(encoding="utf-8").strip() for path in packed)
    if not words and about["license"] == "MIT" and name in HOLDERS:
        words = MIT.format(holder=HOLDERS[name])
    if not words:
        raise LicenseMissing(f"{name} {about['version']} packs no licence text: find its own")
    return f"{name} {about['version']} ({about['license']})\n\n{words}\n"
