"""The command line as `python -m vcae`."""

from vcae.cli.main import main

if __name__ == "__main__":
    main()
