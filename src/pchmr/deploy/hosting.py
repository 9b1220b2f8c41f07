"""Files by which a server is kept running: a systemd unit and a container file, for one federation.

They start the server in the foreground; who restarts it, where it listens and who may read its
folder is then the system's affair.
"""

import sys
from pathlib import Path

from pchmr.runs import write_bytes

UNIT, CONTAINER = "pchmr-federation.service", "Containerfile"
UNIT_TEXT = """# cp {unit} /etc/systemd/system/ && systemctl enable --now pchmr-federation
[Unit]
Description=Server of a pchmr federation
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart="{python}" -m pchmr.cli deploy up "{folder}" --no-background
Restart=on-failure
RestartSec=5
UMask=0077
NoNewPrivileges=true
PrivateTmp=true
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths="{folder}"

[Install]
WantedBy=multi-user.target
"""
CONTAINER_TEXT = """# podman build -t pchmr-federation -f Containerfile .
# podman run --userns=keep-id -v ./:/federation:Z -p {port}:{port} pchmr-federation
FROM docker.io/library/python:{version}-slim
RUN pip install --no-cache-dir pchmr
VOLUME /federation
EXPOSE {port}
ENTRYPOINT ["pchmr", "deploy", "up", "/federation", "--no-background", "--host", "0.0.0.0"]
"""


def write_hosting(folder: Path, port: int) -> None:
    """Writes both files into the federation's folder."""
    place = folder.resolve()
    unit = UNIT_TEXT.format(unit=place / UNIT, python=sys.executable, folder=place)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    container = CONTAINER_TEXT.format(port=port, version=version)
    write_bytes(folder / UNIT, unit.encode(), private=True)
    write_bytes(folder / CONTAINER, container.encode(), private=True)
