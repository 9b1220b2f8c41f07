"""Records the hashes of the files that ship with the package: `python -m pchmr.workshop.shipped`.

Makers of assets do so themselves; this is for whoever puts a file there by hand.
"""

from pchmr.runs.hashes import record_shipped

if __name__ == "__main__":
    print(record_shipped())
