"""Commands that measure: trials, evaluate, probe, bench."""

from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from vcae.cli import console
from vcae.cli.console import err
from vcae.cli.options import Device, Model, load_converter
from vcae.files import check_output


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
    from vcae.corpora.layouts import read_speech
    from vcae.evaluation.trials import make_trials, write_trials

    check_output(out, [".tsv"])
    made = make_trials(read_speech(folder, corpus, transcripts), count, per_pair, references, language, seed)
    write_trials(out, made)
    speakers = {trial.target_speaker for trial in made}
    err.print(f"{out}: {len(made)} trials of {len(speakers)} speakers")


def evaluate(
    pairs: Path,
    out: Path,
    system: tuple[str, ...] = (),
    converted: Path | None = None,
    whisper: str | None = None,
    cache: Path | None = None,
    model: Model = None,
    device: Device = "cpu",
) -> None:
    """Convert the trials of a list and let judges hear them who had no part in training.

    Writes results.json, report.html and every recording to --out, and a table to the console.

    Args:
        pairs: the list, made by `vcae trials`
        out: a new folder
        system: what to judge: vcae (default), natural, identity, reconstruct, vocoder, griffinlim, world
        converted: judge what another system made: a folder of files named as the trials are, ID.wav
        whisper: name or folder of another Whisper model than tiny.en
        cache: where to keep what judges heard; default: the user's cache folder
    """
    from vcae.evaluation.runner import evaluate_list

    converter = load_converter(model, device)
    evaluation = evaluate_list(pairs, out, converter, system, converted, whisper, cache, console.track)
    console.show(evaluation.table())
    err.print(f"written: {out / 'results.json'} and {out / 'report.html'}")


def probe(
    folder: Positional[Path],
    out: Path | None = None,
    corpus: str | None = None,
    transcripts: Path | None = None,
    model: Model = None,
    device: Device = "cpu",
) -> None:
    """Ask what the codes of the speech in FOLDER tell of what they should not, and of what they should.

    Speaker and F0 from content codes, phones from both codes, equal error rate of speaker codes: a table on
    the console. Give speakers whom the weights have not heard.

    Args:
        folder: a corpus as its makers publish it, or a folder for each speaker
        out: all numbers, NAME.json
        corpus: which corpus FOLDER is, where its name does not say so
        transcripts: folder of NAME.tsv with texts, for corpora without; else Whisper writes them down
    """
    from vcae.corpora.layouts import read_speech
    from vcae.evaluation import probes

    if out:
        check_output(out, [".json"])
    result = probes.probe(read_speech(folder, corpus, transcripts), load_converter(model, device))
    for line in result.left_out:
        err.print(f"vcae: {line}")
    Console().print(result.table())
    if out:
        result.write(out)
    console.report(len(result.left_out))


def bench(hour: bool = False, quick: bool = False, json: bool = False, model: Model = None) -> None:
    """Measure speed, latency, memory and size on this machine.

    Args:
        hour: measure the memory for an hour of sound too, which takes some minutes
        quick: once and with little sound
        json: write JSON instead of a table
        model: folder of weights that training wrote; default: the bundled
    """
    import dataclasses
    from json import dumps

    from vcae.evaluation.bench import bench as measure

    seconds = [10] if quick else [10, 600]
    with err.status("Measuring") if err.is_terminal else nullcontext():
        found = measure(model, [*seconds, 3600] if hour else seconds, quick)
    if json:
        print(dumps(dataclasses.asdict(found), indent=1))  # noqa: T201 -- the result itself
    else:
        console.show([["what", "how much"], *found.rows()])
