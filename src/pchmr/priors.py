"""`pchmr priors`: fetches the networks of others that are asked for by name, and lists them.

The one verb that touches a network, through pip and for one pinned file; `--file` does without.
Nothing of a wheel is installed or run: its pinned members are unpacked and the rest is deleted.
"""

import json
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

from pchmr.config import PriorsConfig
from pchmr.perception.fetched import (
    FETCHED,
    PROVENANCE,
    FetchedPrior,
    PriorFileError,
    matches,
    prior_folder,
    state,
)
from pchmr.runs import write_bytes

MB = 1e6
MOST_SECONDS = 600
NO_PIP = "No module named pip"
WRONG_HASH = "DO NOT MATCH THE HASHES"
STATES = {
    "ok": "here",
    "missing": "not here: `pchmr priors get {name}` fetches it",
    "broken": "damaged, or other files under its names: `pchmr priors get {name}` fetches it anew",
}


def run(config: PriorsConfig) -> None:
    """Does the task and tells what is where."""
    if config.task == "list":
        for name in FETCHED:
            print(described(name, config.to))
        return
    assert config.name is not None
    get(config.name, config.to, config.file)
    print(described(config.name, config.to))


def described(name: str, root: Path | None = None) -> str:
    """A prior in a few lines: version, licence, state, size, scope, place."""
    prior, folder = FETCHED[name], prior_folder(name, root)
    return "\n".join(
        (
            f"{name}: {prior.package} {prior.version}, {prior.license}, "
            f"{STATES[state(name, folder)].format(name=name)}",
            f"  {prior.num_bytes / MB:.1f} MB in {folder}",
            f"  its makers' scope: {prior.scope}",
        )
    )


def get(name: str, root: Path | None = None, wheel: Path | None = None) -> Path:
    """Fetches a prior unless it is there, and returns its folder.

    Args:
        name: Key of `FETCHED`.
        root: Data folder; without it, $PCHMR_DATA or ~/.pchmr.
        wheel: The wheel, where it has been downloaded already.

    Raises:
        PriorFileError: pip cannot fetch the file, or it is not the one that was pinned.
        SettingError: The folder cannot be written.
    """
    folder, prior = prior_folder(name, root), FETCHED[name]
    if state(name, folder) == "ok":
        return folder
    with tempfile.TemporaryDirectory(prefix="pchmr-priors-") as temporary:
        found = wheel or download(prior, Path(temporary))
        contents = unpacked(prior, found)
    for file, content in contents.items():
        write_bytes(folder / file, content)
    write_bytes(folder / PROVENANCE, provenance(name))
    return folder


def download(prior: FetchedPrior, folder: Path) -> Path:
    """Has pip download the pinned wheel, for whatever system this is, and check its hash.

    Raises:
        PriorFileError: One line with the cause and the cure.
    """
    pinned = f"{prior.package}=={prior.version} --hash=sha256:{prior.wheel_sha256}\n"
    requirements = folder / "requirements.txt"
    requirements.write_text(pinned, encoding="utf-8")
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
        "--python-version", prior.python_version, "--platform", prior.platform,
        "--require-hashes", "--no-cache-dir", "--no-input", "--disable-pip-version-check",
        "--quiet", "-r", str(requirements), "-d", str(folder),
    ]  # fmt: skip
    by_hand = f"or get {prior.wheel} elsewhere and give it with --file"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        raise PriorFileError(f"pip took over {MOST_SECONDS} s: try again, {by_hand}") from None
    if NO_PIP in done.stderr:
        raise PriorFileError(f"this Python has no pip, which fetches priors: install it, {by_hand}")
    if WRONG_HASH in done.stderr:
        raise PriorFileError(
            f"the package index handed out another {prior.wheel} than the pinned one: use the "
            f"index at pypi.org, {by_hand}"
        )
    wheel = folder / prior.wheel
    if done.returncode or not wheel.is_file():
        raise PriorFileError(f"pip cannot fetch it ({_reason(done.stderr)}): go online, {by_hand}")
    return wheel


def _reason(said: str) -> str:
    """pip's own last word."""
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    lines = errors or said.splitlines() or ["no reason given"]
    return lines[-1].removeprefix("ERROR:").strip()[:160]


def unpacked(prior: FetchedPrior, wheel: Path) -> dict[str, bytes]:
    """The pinned files of a wheel, checked.

    Raises:
        PriorFileError: No wheel, or one that does not hold the pinned files.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            return {file: _member(archive, prior, file) for file in prior.files}
    except FileNotFoundError:
        raise PriorFileError(f"--file {wheel}: no such file") from None
    except PriorFileError as error:
        raise PriorFileError(f"--file {wheel}: {error}; give {prior.wheel}") from None
    except (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zlib.error,
            zipfile.BadZipFile) as error:  # fmt: skip
        raise PriorFileError(f"--file {wheel} is no wheel ({error}); give {prior.wheel}") from None


def _member(archive: zipfile.ZipFile, prior: FetchedPrior, file: str) -> bytes:
    """A pinned file; no more of it is unpacked than was pinned."""
    pinned = prior.files[file]
    try:
        with archive.open(pinned.member) as opened:
            content = opened.read(pinned.num_bytes + 1)
    except KeyError:
        raise PriorFileError(f"holds no {file}") from None
    if not matches(content, pinned):
        raise PriorFileError(f"holds another {file} than that of version {prior.version}")
    return content


def provenance(name: str) -> bytes:
    """Where the files come from, as JSON."""
    prior = FETCHED[name]
    told = {
        "name": name,
        "package": prior.package,
        "version": prior.version,
        "wheel": prior.wheel,
        "wheel_sha256": prior.wheel_sha256,
        "license": prior.license,
        "scope": prior.scope,
        "files": {
            file: {"member": p.member, "num_bytes": p.num_bytes, "sha256": p.sha256}
            for file, p in prior.files.items()
        },
        "fetched": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return (json.dumps(told, indent=2) + "\n").encode()
