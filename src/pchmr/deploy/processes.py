"""Programs that run on while a verb has ended: started, found again, and ended with all they began.

Every process that is started, and so every one that it starts, carries a mark in its environment:
the federation's fingerprint and the folder it works for. What `down` ends is found by the mark, so
that a stray child is found, too, and nothing else is touched. Where processes cannot be listed
(other systems than Linux), those that were started are known by their number, and their children
end with them.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pchmr.config import SettingError
from pchmr.runs import make_folder, write_bytes

MARK, PLACE, SOURCES = "PCHMR_FEDERATION", "PCHMR_DEPLOY_FOLDER", "PYTHONPATH"
LOG, PID, TEMPORARY, FLOWER_HOME = "log.txt", "pid", "tmp", "flwr"
GRACE_SECONDS, POLL_SECONDS = 10.0, 0.1
PROC = Path("/proc")


def environment(mark: str, folder: Path, live: Path) -> dict[str, str]:
    """What a program is started with: the mark, and places for what it writes meanwhile."""
    from pchmr.federated.flower.api import QUIET

    programs = str(Path(sys.executable).parent)
    sources = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get(SOURCES)])]
    own = {
        MARK: mark,
        PLACE: str(folder.resolve()),
        "FLWR_HOME": str(live.resolve() / FLOWER_HOME),
        "TMPDIR": str(live.resolve() / TEMPORARY),
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
        SOURCES: os.pathsep.join(sources),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "FLWR_LOG_LEVEL": os.environ.get("FLWR_LOG_LEVEL", "INFO"),
    }
    return {**os.environ, **QUIET, **own}


def prepare(live: Path) -> None:
    """Makes the folder of what is there only while a program runs."""
    for folder in (live, live / TEMPORARY, live / FLOWER_HOME):
        make_folder(folder, private=True)


def start(command: Sequence[str], live: Path, env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Starts a program that goes on when this one ends; its words go to `live/log.txt`."""
    with open(live / LOG, "ab", opener=_private) as log:
        begun = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=live,
            start_new_session=True,
        )
    write_bytes(live / PID, f"{begun.pid}\n".encode(), private=True)
    return begun


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def wait_until(
    is_ready: Callable[[], bool], begun: "subprocess.Popen[bytes]", seconds: float
) -> bool:
    """Waits until something holds; False if the program ended first or the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_ready():
            return True
        if begun.poll() is not None:
            return False
        time.sleep(POLL_SECONDS)
    return False


def marked(mark: str, folder: Path | None = None) -> list[int]:
    """Numbers of the running processes with a mark, of one folder or of all."""
    wanted = {f"{MARK}={mark}".encode()}
    if folder is not None:
        wanted.add(f"{PLACE}={folder.resolve()}".encode())
    found = []
    for place in PROC.glob("[0-9]*"):
        number = int(place.name)
        with suppress(OSError):
            if number != os.getpid() and wanted <= set(_environment_of(place)):
                found.append(number)
    return found


def _environment_of(place: Path) -> list[bytes]:
    return (place / "environ").read_bytes().split(b"\0")


def cpu_seconds(mark: str) -> float:
    """What the processes with a mark have spent, and those of their children that ended (Linux)."""
    ticks = 0
    for number in [*marked(mark), os.getpid()]:
        with suppress(OSError):
            fields = (PROC / str(number) / "stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def places(mark: str) -> set[Path]:
    """Folders that processes with a mark work for."""
    found = set()
    for number in marked(mark):
        with suppress(OSError):
            for entry in _environment_of(PROC / str(number)):
                name, _, value = entry.decode(errors="replace").partition("=")
                if name == PLACE:
                    found.add(Path(value))
    return found


def is_running(mark: str, folder: Path, live: Path) -> bool:
    """Whether a folder's program runs."""
    if PROC.is_dir():
        return bool(marked(mark, folder))
    return _lives(_number(live))


def _number(live: Path) -> int | None:
    try:
        return int((live / PID).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _lives(number: int | None) -> bool:
    if number is None:
        return False
    try:
        os.kill(number, 0)
    except OSError:
        return False
    return True


def stop(mark: str, folder: Path, live: Path) -> int:
    """Ends a folder's processes and removes what they wrote meanwhile; how many there were."""
    alive = (lambda: marked(mark, folder)) if PROC.is_dir() else (lambda: _numbers(live))
    count = len(alive())
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for number in alive():
            with suppress(ProcessLookupError):
                os.kill(number, sent)
        end = time.monotonic() + GRACE_SECONDS
        while alive() and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
    if live.is_dir():
        shutil.rmtree(live)
    return count


def _numbers(live: Path) -> list[int]:
    number = _number(live)
    return [number] if number is not None and _lives(number) else []


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens on a port."""
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except PermissionError:
            raise SettingError(
                f"--port {port} is for the system alone: give one from 1024"
            ) from None
        except socket.gaierror:
            raise SettingError(f"--host {host} is no address of this machine") from None
        except OSError as error:
            if "assign" in str(error).lower():
                raise SettingError(f"--host {host} is no address of this machine") from None
            return False
    return True


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def last_words(live: Path, count: int = 3) -> str:
    """The end of a program's log, in one line."""
    try:
        lines = (live / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "it left no log"
    said = [line.strip() for line in lines if line.strip()]
    return " | ".join(said[-count:])[-300:] or "it left no word"
