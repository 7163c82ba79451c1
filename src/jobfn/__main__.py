"""``python -m jobfn``: the command line."""

import sys

from jobfn.cli import main

if __name__ == "__main__":
    sys.exit(main())
