"""`python -m demo`, which is the same as `vcae demo`."""

import sys

from vcae.cli.main import main

if __name__ == "__main__":
    main(["demo", *sys.argv[1:]])
