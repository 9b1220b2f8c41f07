"""The server's program: Flower's SuperLink for one federation (`python -m pchmr.deploy.superlink`).

The folder comes in the environment, so that a list of processes shows no path.
"""

import os
from functools import partial
from pathlib import Path

from pchmr.deploy.bundle import signatures_of
from pchmr.deploy.certificates import CA_CERTIFICATE, SERVER_CERTIFICATE, SERVER_KEY
from pchmr.deploy.enrollment import Enrollment
from pchmr.deploy.federation import STATE, Federation
from pchmr.deploy.processes import PLACE
from pchmr.federated.flower.superlink import Hooks, serve


def arguments(federation: Federation) -> list[str]:
    """What Flower's program is told."""
    folder, about = federation.path, federation.about
    options = {
        "--ssl-ca-certfile": folder / CA_CERTIFICATE,
        "--ssl-certfile": folder / SERVER_CERTIFICATE,
        "--ssl-keyfile": folder / SERVER_KEY,
        "--host": about.host,
        "--port": about.port,
        "--database": folder / STATE,
    }
    said = [str(word) for pair in options.items() for word in pair]
    return [*said, "--enable-supernode-auth", "--disable-runtime-dependency-installation"]


def main() -> None:
    """Serves until it is ended."""
    federation = Federation.open(Path(os.environ[PLACE]))
    hooks = Hooks(
        token=federation.token,
        signatures=partial(signatures_of, federation.path),
        answer=Enrollment(federation).answer,
    )
    serve(arguments(federation), hooks)


if __name__ == "__main__":
    main()
