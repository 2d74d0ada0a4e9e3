"""Entry point of the command line; each command is a function.

Exit status: 0 for success, 1 if some of several files could not be used or a part of a file is missing (each
is named), 2 for errors that the user can fix, reported in one line without a traceback.
"""

import os
import signal
import sys
from collections.abc import Sequence

import tyro

from vcae import __version__
from vcae.cli.anomaly import anomaly
from vcae.cli.codes import embed
from vcae.cli.console import err, notices, printable, stdout
from vcae.cli.convert import convert, reconstruct
from vcae.cli.corpora import download, shard
from vcae.cli.demo import demo
from vcae.cli.detect import detect
from vcae.cli.doctor import doctor
from vcae.cli.evaluate import bench, evaluate, probe, trials
from vcae.cli.export import export
from vcae.cli.info import info
from vcae.cli.live import stream
from vcae.cli.pack import pack, unpack
from vcae.cli.phones import speak, transcribe
from vcae.cli.restore import denoise, revoice, superres
from vcae.cli.similarity import similarity
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
    similarity,
    detect,
    transcribe,
    speak,
    pack,
    unpack,
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
    shard,
    anomaly,
    demo,
)
"""The commands, in the order of the help."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line with these arguments; default: those of the process."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)
    words = list(sys.argv[1:] if args is None else args)
    if words == ["--version"]:
        stdout.print(f"vcae {__version__}")
        return
    if words[:1] != ["mix"]:  # `mix` has a flag --weights of its own
        words = [
            OLD_FLAGS.get(flag, flag) + eq + value for flag, eq, value in (w.partition("=") for w in words)
        ]
    app = tyro.extras.SubcommandApp()
    for command in COMMANDS:
        app.command(command)
    try:
        if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # from now on, files are cleaned up
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with notices.printed():
            app.cli(
                args=words,
                config=(tyro.conf.FlagCreatePairsOff,),
                prog="vcae",
                description="Voice conversion with a feature-disentangling autoencoder (--version: its own).",
            )
        if notices.partial:
            sys.exit(1)
    except VcaeError as error:
        err.print(f"vcae: {printable(error)}")
        sys.exit(2)
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that a later flush succeeds
        sys.exit(141)
    except OSError as error:  # of a name that no file can have, a full disk, a drive that is gone
        name = f"{error.filename}: " if error.filename else ""
        err.print(
            f"vcae: {printable(name)}cannot be used ({error.strerror or error}); check name and permissions"
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _end(number: int, _: object) -> None:
    """End the program by a signal as by Ctrl-C, so that unfinished files are deleted."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)
