"""The command line: one function a command.

Exit status: 0 when all went well, 1 when some of several files could not be used (each is named), 2 when
nothing could be done. An error that the user can mend is one line, without a traceback.
"""

import os
import sys
from collections.abc import Sequence

import tyro

from vcae.cli.codes import embed
from vcae.cli.console import err
from vcae.cli.convert import convert, reconstruct
from vcae.cli.demo import demo
from vcae.cli.evaluate import bench, evaluate, probe, trials
from vcae.cli.export import export
from vcae.cli.info import info
from vcae.cli.live import stream
from vcae.cli.voices import mix, voice
from vcae.errors import VcaeError

OLD_FLAGS = {"--weights": "--model", "--reserve": "--jitter-buffer"}
"""Flags of version 0.1, which are still understood but not shown."""

COMMANDS = (
    convert,
    stream,
    reconstruct,
    embed,
    voice,
    mix,
    info,
    trials,
    evaluate,
    probe,
    bench,
    export,
    demo,
)
"""In the order in which the help lists them."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line, on these words or on those that were typed."""
    words = list(sys.argv[1:] if args is None else args)
    if words[:1] != ["mix"]:  # its --weights are shares of voices
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
    except BrokenPipeError:  # whoever read the output has seen enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor does a later flush fail
        sys.exit(141)
