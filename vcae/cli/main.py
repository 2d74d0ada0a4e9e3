"""Entry point of the command line; each command is a function.

Exit status: 0 for success, 1 if some of several files could not be used (each is named), 2 for errors that
the user can fix, reported in one line without a traceback.
"""

import os
import sys
from collections.abc import Sequence

import tyro

from vcae.cli.codes import embed
from vcae.cli.console import err
from vcae.cli.convert import convert, reconstruct
from vcae.cli.corpora import download
from vcae.cli.demo import demo
from vcae.cli.doctor import doctor
from vcae.cli.evaluate import bench, evaluate, probe, trials
from vcae.cli.export import export
from vcae.cli.info import info
from vcae.cli.live import stream
from vcae.cli.phones import speak, transcribe
from vcae.cli.restore import denoise, revoice, superres
from vcae.cli.voices import mix, voice
from vcae.errors import VcaeError

OLD_FLAGS = {"--weights": "--model", "--reserve": "--jitter-buffer"}
"""Flags of version 0.1 and their replacements; accepted, but not listed in the help."""

COMMANDS = (
    convert,
    stream,
    reconstruct,
    denoise,
    superres,
    revoice,
    embed,
    transcribe,
    speak,
    voice,
    mix,
    info,
    trials,
    evaluate,
    probe,
    bench,
    export,
    download,
    doctor,
    demo,
)
"""The commands, in the order of the help."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line with these arguments; default: those of the process."""
    words = list(sys.argv[1:] if args is None else args)
    if words[:1] != ["mix"]:  # `mix` has a flag --weights of its own
        words = [
            OLD_FLAGS.get(flag, flag) + eq + value for flag, eq, value in (w.partition("=") for w in words)
        ]
    app = tyro.extras.SubcommandApp()
    for command in COMMANDS:
        app.command(command)
    try:
        app.cli(
            args=words,
            config=(tyro.conf.FlagCreatePairsOff,),
            prog="vcae",
            description="Voice conversion with a feature-disentangling autoencoder.",
        )
    except VcaeError as error:
        err.print(f"vcae: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that a later flush succeeds
        sys.exit(141)
