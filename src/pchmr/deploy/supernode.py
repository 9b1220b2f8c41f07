"""A device's program: Flower's SuperNode, begun again whenever it ends by itself.

Flower's program tries again after most failures of a network, but gives up where a connection is
torn within a TLS handshake, and is not let in while the server takes its killed forerunner for
alive. It is started anew until somebody ends this program (`python -m pchmr.deploy.supernode`).
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from pchmr.deploy import processes
from pchmr.deploy.device import AUTHORITY, NODE_KEY, TRUSTED, DeviceFolder
from pchmr.federated.secure.device import wipe_rounds
from pchmr.federated.secure.state import MOST_AGE_SECONDS

PAUSES_SECONDS = (2.0, 5.0, 10.0, 30.0)
LONG_SECONDS = 120.0  # who ran so long was connected
WIPE_SECONDS = 3600.0  # between two looks for rounds that were given up


def arguments(folder: DeviceFolder) -> list[str]:
    """What Flower's program is told; a list of trusted signers is always there."""
    options = {
        "--root-certificates": folder.path.resolve() / AUTHORITY,
        "--superlink": folder.about.address,
        "--port": processes.free_port(),
        "--auth-supernode-private-key": folder.path.resolve() / NODE_KEY,
        "--trusted-entities": folder.path.resolve() / TRUSTED,
    }
    return [str(word) for pair in options.items() for word in pair]


def keep_running(folder: DeviceFolder) -> None:
    """Starts the SuperNode again and again, with longer pauses the sooner it ends.

    Secrets of rounds that an ended program left are wiped at the start, older ones all the time.
    """
    wipe_rounds(folder.path)
    failures, told = 0, [False]
    program = str(Path(sys.executable).with_name("flower-supernode"))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    while not told[0]:
        began = time.monotonic()
        child = subprocess.Popen([program, *arguments(folder)])

        def end(number: int, frame: object, child: "subprocess.Popen[bytes]" = child) -> None:
            told[0] = True  # the loop waits for it: waiting here would wait for the loop
            child.terminate()

        signal.signal(signal.SIGTERM, end)
        _wait(child, folder)
        if told[0]:
            return
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        failures = 0 if time.monotonic() - began > LONG_SECONDS else failures + 1
        time.sleep(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)])


def _wait(child: "subprocess.Popen[bytes]", folder: DeviceFolder) -> None:
    """Waits for a program to end, and wipes meanwhile what no server will ask for any more."""
    while child.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            child.wait(WIPE_SECONDS)
        wipe_rounds(folder.path, MOST_AGE_SECONDS)


def main() -> None:
    """Runs for the folder in the environment."""
    keep_running(DeviceFolder.open(Path(os.environ[processes.PLACE])))


if __name__ == "__main__":
    main()
