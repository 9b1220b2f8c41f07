"""Which models of a federation were released, and which clients they learned from."""

from pchmr.deploy.federation import Federation
from pchmr.door import FileError
from pchmr.runs import SUMMARY, RunFolder


def took_part(row: dict) -> set[int]:
    """Clients of a round whose updates are in the model; of a sum, all that may be in it.

    Who is lost after masking stands among those left out, and its vector is in the sum.
    """
    if row["sum"] is not None:
        return set(row["cohort"]) if row["changed"] else set()
    out = {found["client_id"] for found in row["quarantined"]}
    return set(row["cohort"]) - out if row["changed"] else set()


def released_models(federation: Federation, client: int) -> list[str]:
    """`RUN, SHA-256` of the finished runs whose model learned from a client."""
    found = []
    for path in federation.run_folders:
        run = RunFolder(path)
        try:
            summary = run.read_json(SUMMARY)
        except FileError:
            continue
        if summary and any(client in took_part(row) for row in run.read_rows()):
            found.append(f"{path.name}, sha256 {summary['model_sha256']}")
    return found
