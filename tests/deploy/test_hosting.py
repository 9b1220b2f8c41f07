"""The files that keep a server running, as far as they can be held against their readers here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pchmr.deploy.hosting import CONTAINER, UNIT, write_hosting
from pchmr.deploy.released import took_part
from pchmr.deploy.status import composed


def test_the_container_starts_the_server_in_the_foreground(tmp_path: Path) -> None:
    write_hosting(tmp_path, 8443)
    text = (tmp_path / CONTAINER).read_text()
    words = [line.split()[0] for line in text.splitlines() if line and line[0] != "#"]
    assert words == ["FROM", "RUN", "VOLUME", "EXPOSE", "ENTRYPOINT"]
    assert '"--no-background"' in text and "EXPOSE 8443" in text and "KEY" not in text


def test_the_unit_starts_the_server_in_the_foreground(tmp_path: Path) -> None:
    write_hosting(tmp_path / "", 8443)
    text = (tmp_path / UNIT).read_text()
    sections = [line for line in text.splitlines() if line.startswith("[")]
    assert sections == ["[Unit]", "[Service]", "[Install]"]
    assert f'deploy up "{tmp_path}" --no-background' in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    write_hosting(tmp_path, 8443)
    command = ["systemd-analyze", "verify", str(tmp_path / UNIT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Failed" not in done.stderr and "Unknown" not in done.stderr


def test_a_handler_of_keys_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys, pchmr.deploy.client_app; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_who_was_lost_after_masking_is_in_the_model() -> None:
    lost = [{"client_id": 4, "reason": "unavailable"}]
    row = {"cohort": [0, 4], "changed": True, "quarantined": lost, "sum": {"survivors": 2}}
    assert took_part(row) == {0, 4}
    assert took_part(row | {"sum": None}) == {0}
    assert took_part(row | {"changed": False}) == set()


def test_the_epsilons_of_runs_add_up() -> None:
    """Each run's own says nothing of a client that took part in two."""
    told = {"differential_privacy": {"epsilon": 1.5, "delta": 0.01}}
    assert composed([told]) == [] and composed([{}, {}]) == []
    assert composed([told, told]) == [
        "all runs together: epsilon 3.00 at delta 0.02 for each client"
    ]
    assert composed([told, {}])[0].startswith("all runs together: no bound, 1 without")
