"""The device's program comes back when it ended by itself, and goes when it is told to."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pchmr.deploy.device import AboutDevice, DeviceFolder

PROGRAM = """#!{python}
import time
with open("{log}", "a") as log:
    log.write("began\\n")
time.sleep({seconds})
"""


def test_a_program_that_ends_is_begun_again_until_it_is_told_to_end(tmp_path: Path) -> None:
    folder = DeviceFolder.create(tmp_path / "d")
    folder.pending_keys(1)
    folder.settle(AboutDevice(address="a:1", authority="0", pseudonym="p", data="/d", clients=(0,)))
    left = folder.path / "secure" / "client_000000.state"
    left.write_bytes(b"of a round that an ended program left")
    log, program = tmp_path / "log", tmp_path / "flower-supernode"
    program.write_text(PROGRAM.format(python=sys.executable, log=log, seconds=0))
    program.chmod(0o700)
    code = (
        f"import sys; sys.executable = {str(tmp_path / 'python')!r}\n"
        "from pathlib import Path; from pchmr.deploy import supernode\n"
        "supernode.PAUSES_SECONDS = (0.05,)\n"
        f"from pchmr.deploy.device import DeviceFolder\n"
        f"supernode.keep_running(DeviceFolder.open(Path({str(folder.path)!r})))\n"
    )
    running = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    while not log.exists() or log.read_text().count("began") < 3:
        assert running.poll() is None
        time.sleep(0.05)
    assert not left.exists()
    program.write_text(PROGRAM.format(python=sys.executable, log=log, seconds=600))
    before = log.read_text().count("began")
    while log.read_text().count("began") == before:
        time.sleep(0.05)
    time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    assert running.wait() == 0
