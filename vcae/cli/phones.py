"""Commands for the readable code: transcribe, speak."""

from collections.abc import Callable
from json import dumps, loads
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from tyro.conf import Positional

from vcae.audio import WRITABLE
from vcae.cli import console, paths
from vcae.cli.options import Device, Model, OptionalVoice, Sources, load_converter
from vcae.errors import VcaeError
from vcae.files import check_output, replacing
from vcae.inference.transcriber import PhoneError, Transcriber, load_codec
from vcae.model.phones import SILENCE, Phone
from vcae.progress import Progress


def transcribe(
    files: Sources,
    out: Path | None = None,
    times: bool = False,
    textgrid: bool = False,
    json: bool = False,
    model: Model = "studio",
    device: Device = "cpu",
) -> None:
    """Print the phones of recordings of English, in ARPAbet; SIL is a pause.

    Without further options, a line for each recording. Where there are several, lines begin with the name of
    the recording.

    Args:
        files: recordings, or folders of them
        out: a folder for a file for each recording; default: print
        times: a line for each phone: start and end in seconds, phone
        textgrid: the intervals, for Praat; several recordings need --out
        json: for `vcae speak`; several recordings need --out
    """
    chosen = [format_ for format_, flag in ((TIMES, times), (TEXTGRID, textgrid), (JSON, json)) if flag]
    if len(chosen) > 1:
        raise VcaeError("--times, --textgrid and --json exclude each other; give one of them")
    format_ = chosen[0] if chosen else LINE
    plan = _plan(files, out, format_.suffix)
    if out is None and len(plan) > 1 and not format_.by_line:
        raise VcaeError("several recordings cannot be printed in this format; give a folder with --out")
    transcriber = Transcriber(load_converter(model, device), load_codec(model))

    def read(source: Path, path: Path, progress: Progress) -> None:
        text = format_.write(transcriber.transcribe(source, progress))
        if out is None:
            named = f"{source}\t" if len(plan) > 1 else ""
            print("\n".join(named + line for line in text.splitlines()))  # noqa: T201 -- the result itself
        else:
            with replacing(path) as unfinished:
                unfinished.write_text(text, encoding="utf-8")

    console.report(console.for_each(plan, read))


def speak(
    source: Positional[Path],
    phones: Path,
    out: Path,
    voice: OptionalVoice = (),
    model: Model = "studio",
    device: Device = "cpu",
) -> None:
    """Speak a recording with edited phones, in any voice.

    Write the phones by `vcae transcribe --json`. In this file, a phone can be renamed, left out, moved, or
    given a "duration" in seconds; a new one has a duration, and start and end are equal. All else stays.

    Args:
        source: the recording
        phones: the edited file, NAME.json
        out: the file to write
    """
    check_output(out, WRITABLE)
    if out.resolve() in {path.resolve() for path in (source, phones, *voice)}:
        raise VcaeError(f"{out}: is an input, too; choose another --out")
    edited = read_phones(phones)
    converter = load_converter(model, device)
    transcriber = Transcriber(converter, load_codec(model))
    target = converter.voice(paths.references(voice)) if voice else None
    try:
        audio = transcriber.speak(source, edited, target)
    except PhoneError as error:
        raise VcaeError(f"{phones}: {error}") from None
    audio.write(out)


def read_phones(path: Path) -> list[Phone]:
    """Read what `vcae transcribe --json` writes, edited or not. Raises VcaeError."""
    how = "edit one that `vcae transcribe --json` wrote"
    try:
        entries = loads(path.read_text(encoding="utf-8"))["phones"]
        return [_phone(entry) for entry in entries]
    except OSError as error:
        raise VcaeError(f"{path}: cannot be read ({error.strerror}); {how}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise VcaeError(f"{path}: is no list of phones ({reason}); {how}") from None


def _phone(entry: dict[str, Any]) -> Phone:
    unknown = entry.keys() - {"phone", "start", "end", "duration"}
    if unknown:
        raise ValueError(f"unknown entry {min(unknown)}")
    duration = entry.get("duration")
    numbers = [entry["start"], entry["end"], *([] if duration is None else [duration])]
    if not isinstance(entry["phone"], str) or not all(type(n) in (int, float) for n in numbers):
        raise ValueError(f"not a phone: {entry}")
    return Phone(entry["start"], entry["end"], entry["phone"], duration)


def _plan(files: tuple[Path, ...], out: Path | None, suffix: str) -> list[tuple[Path, Path]]:
    """Pairs of recording and output file, whose folder exists. Raises VcaeError."""
    plan: dict[Path, Path] = {}  # from output to recording
    for path, name in paths.recordings(files):
        if out is None:
            plan[path] = path
            continue
        written = out / name.with_suffix(suffix)
        if written in plan:
            raise VcaeError(
                f"{written}: is the output for both {plan[written]} and {path}; read them separately"
            )
        plan[written] = path
    for folder in {written.parent for written in plan} if out else ():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VcaeError(f"{folder}: cannot be created ({error.strerror}); choose another --out") from None
    return [(path, written) for written, path in plan.items()]


def _line(phones: list[Phone]) -> str:
    return " ".join(phone.name for phone in phones) + "\n"


def _times(phones: list[Phone]) -> str:
    return "".join(f"{phone.start:.2f}\t{phone.end:.2f}\t{phone.name}\n" for phone in phones)


def _json(phones: list[Phone]) -> str:
    rows = (dumps({"phone": p.name, "start": p.start, "end": p.end}) for p in phones)
    return '{"phones": [\n ' + ",\n ".join(rows) + "\n]}\n"


def _textgrid(phones: list[Phone]) -> str:
    """Pauses are empty intervals, as is usual in Praat."""
    from praatio.textgrid import IntervalTier, Textgrid

    intervals = [(p.start, p.end, p.name) for p in phones if p.name != SILENCE]
    grid = Textgrid()
    grid.addTier(IntervalTier("phones", intervals, phones[0].start, phones[-1].end))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "phones.TextGrid"
        grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)
        return path.read_text(encoding="utf-8")


class _Format(NamedTuple):
    """How phones are written. by_line: whether each line can stand alone."""

    write: Callable[[list[Phone]], str]
    suffix: str
    by_line: bool


LINE, TIMES = _Format(_line, ".txt", True), _Format(_times, ".txt", True)
TEXTGRID, JSON = _Format(_textgrid, ".TextGrid", False), _Format(_json, ".json", False)
