"""`python -m demo`: what `vcae demo` does."""

import sys

from vcae.cli.main import main

if __name__ == "__main__":
    main(["demo", *sys.argv[1:]])
