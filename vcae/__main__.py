"""The command line: one function a subcommand.

Exit status: 0 when all went well, 1 when some of several files could not be used (each is told), 2 when
nothing could be done. What a user can mend is told in one line, without a traceback.
"""

import gc
import importlib
import importlib.util
import socket
import sys
import time
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.live import Live
from rich.text import Text
from tyro.conf import Positional, arg

from vcae import paths, terminal
from vcae.audio import Progress, decode
from vcae.converter import Converter, load
from vcae.devices import DeviceError, devices, find, opened, rehearsed
from vcae.errors import VcaeError
from vcae.output import check_output, replacing
from vcae.session import Session
from vcae.speaker import Voice
from vcae.streaming import Stream
from vcae.terminal import err, stdout

app = tyro.extras.SubcommandApp()

Weights = Annotated[Path | None, arg(help="folder of weights that training wrote; default: the bundled")]
Device = Annotated[str, arg(help="where to compute: cpu, cuda, cuda:1, mps")]
References = Annotated[
    tuple[Path, ...], arg(help="recordings of the target speaker, or one .voice file", metavar="REF")
]
Sources = Positional[tuple[Path, ...]]


@app.command
def convert(
    sources: Sources,
    voice: References,
    out: Path,
    pitch_shift: float = 0.0,
    strength: float = 1.0,
    weights: Weights = None,
    device: Device = "cpu",
) -> None:
    """Say what SOURCES say in another voice.

    One file is written to --out; of several, or of folders, each to a WAV file of the same name under --out.

    Args:
        sources: recordings, or folders of them
        voice: whose voice to speak in
        out: a file for one source, else a folder
        pitch_shift: semitones on top of the move to the voice's range
        strength: 1 is the voice, 0 the source's own
    """
    plan = paths.outputs(sources, out, keep=voice)
    converter = _load(weights, device)
    with terminal.Bar() as bar:
        target = converter.voice(paths.references(voice), bar.told)

    def one(source: Path, path: Path, progress: Progress) -> None:
        converter.convert_file(source, path, target, pitch_shift, strength, progress)

    terminal.report(terminal.each(plan, one))


@app.command
def stream(
    voice: References = (),
    microphone: str | None = None,
    loudspeaker: str | None = None,
    list_devices: Annotated[bool, arg(name="devices")] = False,
    input: Path | None = None,
    output: Path | None = None,
    realtime: bool = False,
    source_voice: Annotated[tuple[Path, ...], arg(metavar="REF")] = (),
    pitch_shift: float = 0.0,
    strength: float = 1.0,
    block: float = 20.0,
    reserve: float = 40.0,
    profile: bool = False,
    weights: Weights = None,
    device: Device = "cpu",
) -> None:
    """Convert live, from the microphone to the loudspeaker until Ctrl-C, or rehearse it with files.

    Args:
        voice: whose voice to speak in
        microphone: the device to hear, by name, a part of it, or number; default: the system's
        loudspeaker: the device to play to
        list_devices: list the devices, and do nothing else
        input: a file to hear instead of a microphone
        output: a file for what the loudspeaker would play
        realtime: hear the file at the pace of the clock, as a microphone does; default: as fast as possible
        source_voice: the speaker's own, recordings or a .voice file, which then need not be followed
        pitch_shift: semitones on top of the move to the voice's range
        strength: 1 is the voice, 0 the source's own; below 1 needs --source-voice
        block: milliseconds that are heard, converted and played at a time
        reserve: milliseconds of sound that are kept to be played, for when the computer is busy elsewhere
        profile: tell how long blocks took to convert
    """
    if list_devices:
        _list_devices()
        return
    if not voice:
        raise VcaeError("no voice was given; name recordings of the target speaker after --voice")
    if not 5 <= block <= 500:
        raise VcaeError(f"block must be between 5 and 500 ms, not {block:g}")
    if not 0 <= reserve <= 5000:
        raise VcaeError(f"reserve must be between 0 and 5000 ms, not {reserve:g}")
    seconds = block / 1000
    if input and output:
        rate, source = decode(input)
        rates = rate, rate
        [(_, path)] = paths.outputs([input], output, keep=[*voice, *source_voice])
        ends = partial(rehearsed, source=source, out=path, block=seconds, realtime=realtime)
    elif input or output:
        raise VcaeError("a rehearsal needs both --input FILE and --output FILE")
    else:
        ears, mouth = find("microphone", microphone), find("loudspeaker", loudspeaker)
        rates = ears.sample_rate, mouth.sample_rate
        ends = partial(opened, microphone=ears, loudspeaker=mouth, block=seconds)
    converter = _load(weights, device)
    begin = partial(
        converter.stream,
        converter.voice(paths.references(voice)),
        sample_rate=rates[0],
        output_rate=rates[1],
        pitch_shift=pitch_shift,
        strength=strength,
        source_voice=converter.voice(paths.references(source_voice)) if source_voice else None,
    )
    converter.trace()
    _make_ready(begin(), round(seconds * rates[0]))
    session = Session(begin(), *rates, reserve / 1000)
    by_hand = _run(session, ends(session))
    _tell(session, seconds, profile)
    if not (by_hand or input):
        raise DeviceError("a sound device has stopped; plug it in and start again")


@app.command
def reconstruct(sources: Sources, out: Path, weights: Weights = None, device: Device = "cpu") -> None:
    """Encode SOURCES and decode them in their own voice: the plain autoencoder.

    Args:
        sources: recordings, or folders of them
        out: a file for one source, else a folder
    """
    plan = paths.outputs(sources, out)
    converter = _load(weights, device)
    terminal.report(terminal.each(plan, converter.reconstruct_file))


@app.command
def embed(
    files: Sources,
    out: Path,
    content: bool = False,
    units: bool = False,
    weights: Weights = None,
    device: Device = "cpu",
) -> None:
    """Write speaker codes of FILES to a NumPy archive: `files` (n,) and `embeddings` (n, E), of unit norm.

    Args:
        files: recordings, or folders of them
        out: the archive, NAME.npz
        content: content codes instead: an array (D, T) a file, under the file's name
        units: ids of the content codes instead, (T,) a file; weights with a discrete bottleneck only
    """
    check_output(out, [".npz"])
    plan = [(path, out) for file in paths.some(files) for path in paths.audio_in(file)]
    converter = _load(weights, device)
    if units and not converter.autoencoder.bottleneck.discrete:
        raise VcaeError("these weights have a continuous code, which has no units; use --content")
    arrays: dict[str, NDArray[Any]] = {}

    def one(path: Path, _: Path, progress: Progress) -> None:
        if content or units:
            code = converter.content(path, progress)
            arrays[str(path)] = (code.z if code.ids is None or not units else code.ids).numpy()
        else:
            arrays[str(path)] = converter.embed(path, progress)

    failed = terminal.each(plan, one)
    if not (content or units):
        arrays = {"files": np.array(list(arrays)), "embeddings": np.stack(list(arrays.values()))}
    _write_npz(out, arrays)
    terminal.report(failed)


@app.command
def voice(references: Sources, out: Path, weights: Weights = None, device: Device = "cpu") -> None:
    """Keep the voice of one speaker in a file, to convert with it later.

    Args:
        references: recordings of the speaker
        out: the file, NAME.voice
    """
    check_output(out, [".voice"])
    converter = _load(weights, device)
    with terminal.Bar() as bar:
        converter.voice(paths.references(references), bar.told).save(out)


@app.command
def mix(voices: Sources, out: Path, weights: tuple[float, ...] = ()) -> None:
    """Make a voice that lies between others.

    Args:
        voices: `.voice` files
        out: the file, NAME.voice
        weights: how much of each; default: as much of each
    """
    check_output(out, [".voice"])
    Voice.mix([Voice.load(v) for v in voices], weights or None).save(out)


@app.command
def trials(
    folder: Positional[Path],
    out: Path,
    count: int | None = None,
    per_pair: int = 1,
    references: int = 3,
    language: str | None = None,
    seed: int = 0,
    corpus: str | None = None,
    transcripts: Path | None = None,
) -> None:
    """Make a fixed list of conversions to judge: every ordered pair of the speakers in FOLDER.

    Args:
        folder: a corpus as its makers publish it, several in folders of their names, or a folder a speaker
        out: the list, NAME.tsv
        count: draw so many of all trials
        per_pair: how many sentences of each ordered pair of speakers
        references: how many recordings stand for a voice
        language: of the sources, such as en; default: any
        seed: another seed is another list
        corpus: which corpus FOLDER is, where its name does not say so
        transcripts: folder of NAME.tsv with texts, for corpora without
    """
    from vcae.corpora import read_speech
    from vcae.trials import make_trials, write_trials

    check_output(out, [".tsv"])
    made = make_trials(read_speech(folder, corpus, transcripts), count, per_pair, references, language, seed)
    write_trials(out, made)
    speakers = {trial.target_speaker for trial in made}
    err.print(f"{out}: {len(made)} trials of {len(speakers)} speakers")


@app.command
def evaluate(
    pairs: Path,
    out: Path,
    system: tuple[str, ...] = (),
    converted: Path | None = None,
    whisper: str | None = None,
    cache: Path | None = None,
    weights: Weights = None,
    device: Device = "cpu",
) -> None:
    """Convert the trials of a list and let judges hear them who had no part in training.

    Writes results.json, report.html and every recording to --out, and a table to the terminal.

    Args:
        pairs: the list, made by `vcae trials`
        out: a new folder
        system: what to judge: vcae (default), natural, identity, reconstruct, vocoder, griffinlim, world
        converted: judge what another system made: a folder of files named as the trials are, ID.wav
        whisper: name or folder of another Whisper model than tiny.en
        cache: where to keep what judges heard; default: the user's cache folder
    """
    from vcae.evaluation import evaluate_list

    converter = _load(weights, device)
    evaluation = evaluate_list(pairs, out, converter, system, converted, whisper, cache, terminal.track)
    terminal.show(evaluation.table())
    err.print(f"written: {out / 'results.json'} and {out / 'report.html'}")


@app.command
def bench(hour: bool = False, quick: bool = False, json: bool = False, weights: Weights = None) -> None:
    """Measure speed, latency, memory and size on this machine.

    Args:
        hour: measure the memory for an hour of sound too, which takes some minutes
        quick: once and with little sound
        json: write JSON instead of a table
        weights: folder of weights that training wrote; default: the bundled
    """
    import dataclasses
    from json import dumps

    from vcae.bench import bench as measure

    seconds = [10] if quick else [10, 600]
    with err.status("Measuring") if err.is_terminal else nullcontext():
        found = measure(weights, [*seconds, 3600] if hour else seconds, quick)
    if json:
        print(dumps(dataclasses.asdict(found), indent=1))  # noqa: T201 -- the result itself
    else:
        terminal.show([["what", "how much"], *found.rows()])


@app.command
def probe(
    folder: Positional[Path],
    out: Path | None = None,
    corpus: str | None = None,
    transcripts: Path | None = None,
    weights: Weights = None,
    device: Device = "cpu",
) -> None:
    """Ask what the codes of the speech in FOLDER tell of what they should not, and of what they should.

    Speaker and F0 from content codes, phones from both codes, equal error rate of speaker codes: a table on
    the terminal. Give speakers whom the weights have not heard.

    Args:
        folder: a corpus as its makers publish it, or a folder for each speaker
        out: all numbers, NAME.json
        corpus: which corpus FOLDER is, where its name does not say so
        transcripts: folder of NAME.tsv with texts, for corpora without; else Whisper writes them down
    """
    from vcae import probes
    from vcae.corpora import read_speech

    if out:
        check_output(out, [".json"])
    result = probes.probe(read_speech(folder, corpus, transcripts), _load(weights, device))
    for line in result.left_out:
        err.print(f"vcae: {line}")
    Console().print(result.table())
    if out:
        result.write(out)
    terminal.report(len(result.left_out))


def _make_ready(stream: Stream, block: int) -> None:
    """Have the computer convert small blocks without delay."""
    import torch

    torch.set_num_threads(1)  # more only wait for each other
    for _ in range(20):  # the first blocks take longest
        stream.feed(np.zeros(block))
    gc.freeze()


def _run(session: Session, ends: AbstractContextManager[None]) -> bool:
    """Convert between two ends until one of them is over, or Ctrl-C, which is told."""
    try:
        with ends, Live(console=err, auto_refresh=False, transient=True) as shown:
            told = time.monotonic()
            while session.convert(timeout=0.25):
                if err.is_terminal and time.monotonic() - told > 0.25:
                    told = time.monotonic()
                    shown.update(Text(session.line(), no_wrap=True), refresh=True)
    except KeyboardInterrupt:
        return True
    return False


def _tell(session: Session, block: float, profile: bool) -> None:
    """Say how a live conversion went."""
    first, longest = 1000 * session.first_delay, 1000 * session.longest_delay
    p50, p95, p99 = session.block_times()
    stdout.print(session.latency(p50))
    stdout.print(f"the latency was {first:.0f} ms at first and {longest:.0f} ms at most")
    stdout.print(
        f"{timedelta(seconds=round(session.duration))} of sound, load {session.load:.0%}, "
        f"{session.dropouts} drop-outs, {session.skipped:.2f} s left out"
    )
    if session.stream.repaired:
        stdout.print(f"{session.stream.repaired} samples were no sound, and taken for silence")
    if profile:
        times = f"p50 {1000 * p50:.1f}, p95 {1000 * p95:.1f}, p99 {1000 * p99:.1f} ms"
        stdout.print(f"blocks of {1000 * block:g} ms took {times}")


def _list_devices() -> None:
    found = devices()
    if not found:
        stdout.print("there are no sound devices here")
    for d in found:
        kinds = [("default " if kind in d.default_for else "") + kind for kind in d.kinds]
        stdout.print(f"{d.index:3} {d.name} ({', '.join(kinds)}, {d.sample_rate} Hz)")


@app.command
def export(onnx: Path, weights: Weights = None) -> None:
    """Write the networks as ONNX graphs, and an example that converts with them, without torch or vcae.

    Args:
        onnx: a new folder, or an empty one
    """
    try:
        from vcae.export import export_onnx
    except ImportError as error:
        message = f"exporting needs {error.name}; install it with `pip install 'vcae[export]'`"
        raise VcaeError(message) from None
    converter = _load(weights, "cpu")
    with err.status("Tracing the networks") if err.is_terminal else nullcontext():
        export_onnx(converter, onnx)


@app.command
def demo(
    host: str = "127.0.0.1",
    port: int = 7860,
    auth: str | None = None,
    share: bool = False,
    weights: Weights = None,
    device: Device = "cpu",
) -> None:
    """Convert in the browser: a page on this machine. Needs the extra `demo`.

    Args:
        host: address to listen at; 0.0.0.0 lets others on the network in
        port: port to listen at
        auth: NAME:PASSWORD that a visitor has to give
        share: make a public link, through the servers of Gradio's makers
    """
    name, _, password = (auth or "").partition(":")
    if auth is not None and not (name and password):
        raise VcaeError("--auth must be NAME:PASSWORD")
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", error)
            raise VcaeError(f"cannot listen at {host}, port {port} ({reason}); try another --port") from None
    if importlib.util.find_spec("gradio") is None:
        raise VcaeError("the demo needs Gradio; install it with `pip install 'vcae[demo]'`")
    # Beside the package in a checkout, in it where it was installed from a wheel.
    package = Path(__file__).parent
    folder = next(f for f in (package / "demo", package.parent / "demo") if (f / "app.py").is_file())
    sys.path.insert(0, str(folder))
    serve = importlib.import_module("app").serve
    serve(_load(weights, device), host, port, (name, password) if auth else None, share)


def _load(weights: Path | None, device: str) -> Converter:
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError):
        raise VcaeError(f"there is no device '{device}' here; use --device cpu") from None
    return load(weights, device)


def _write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """What np.savez writes, but under any names."""
    with replacing(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as f:
                np.lib.format.write_array(f, array, allow_pickle=False)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line, on these words or on those that were typed."""
    try:
        app.cli(
            args=args,
            config=(tyro.conf.FlagCreatePairsOff,),
            prog="vcae",
            description="Voice conversion with a feature-disentangling autoencoder.",
        )
    except VcaeError as error:
        err.print(f"vcae: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
