"""`python -m vcae`: the command line."""

from vcae.cli.main import main

if __name__ == "__main__":
    main()
