"""Systems speak the trials of a list, judges hear them, and a failure counts like anything else."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from vcae.audio import Audio, find_audio, is_silent, read, write
from vcae.converter import Converter
from vcae.errors import VcaeError
from vcae.judges import (
    CepstralDistortion,
    Heard,
    Intelligibility,
    Judge,
    JudgeError,
    Measure,
    Melody,
    Naturalness,
    Score,
    SignalQuality,
    SpeakerSimilarity,
)
from vcae.output import replacing
from vcae.prosody import f0_labels
from vcae.report import write_report
from vcae.results import Evaluation, Result
from vcae.trials import Trial, read_trials
from vcae.vocoder import griffin_lim

System: TypeAlias = Callable[[Trial], Audio]
"""What speaks a trial. Raises VcaeError where it cannot."""

LENGTH_TOLERANCE = 0.1
"""By what share of its length a conversion may differ from the source before it counts as a failure."""


Track: TypeAlias = Callable[[Collection[Any], str], Iterable[Any]]
"""Goes through items of a task and shows how far it is."""


def untracked(items: Collection[Any], task: str) -> Iterable[Any]:
    """Shows nothing."""
    return items


class EvaluationError(VcaeError):
    """An evaluation that cannot be made. One line that says what is wrong and what to do about it."""


class Systems:
    """What can be judged, by name. The bundled weights, what bounds them from above, and from below.

    Their methods are functions of a trial; all give sound at the converter's sample rate.
    """

    def __init__(self, converter: Converter) -> None:
        self.converter = converter
        self.voice = lru_cache(maxsize=None)(lambda references: converter.voice(references))
        self.by_name: Mapping[str, System] = {
            "vcae": self.vcae,
            "natural": self.natural,
            "identity": self.identity,
            "reconstruct": self.reconstruct,
            "vocoder": self.vocoder,
            "griffinlim": self.griffinlim,
            "world": self.world,
        }

    def vcae(self, trial: Trial) -> Audio:
        """Conversion by the weights at hand."""
        return self.converter.convert(trial.source, voice=self.voice(trial.references))

    def natural(self, trial: Trial) -> Audio:
        """The target's own recording: nothing sounds more like the target."""
        if trial.target is None:
            raise EvaluationError("the list names no natural recording of the target")
        return read(trial.target, self.converter.sample_rate)

    def identity(self, trial: Trial) -> Audio:
        """The source unchanged: what another person's voice scores."""
        return read(trial.source, self.converter.sample_rate)

    def reconstruct(self, trial: Trial) -> Audio:
        """Encoded and decoded in the source's own voice: the plain autoencoder."""
        return self.converter.reconstruct(trial.source)

    @torch.inference_mode()
    def vocoder(self, trial: Trial) -> Audio:
        """The source's own mel through the vocoder: copy synthesis."""
        audio, mel = self._mel(trial)
        late = self.converter.autoencoder.config.delay
        prosody = self.converter.autoencoder.prosody(mel)[..., late:]  # in step with the mel
        wav = self.converter.vocoder(mel[..., : prosody.shape[-1]], prosody)[
            0, 0, self.converter.vocoder.delay :
        ]
        return Audio(wav[: len(audio.samples)].cpu().numpy(), audio.sample_rate)

    @torch.inference_mode()
    def griffinlim(self, trial: Trial) -> Audio:
        """The source's own mel through Griffin-Lim."""
        audio, mel = self._mel(trial)
        wav = griffin_lim(mel, self.converter.autoencoder.config.mel)[0, 0]
        return Audio(wav[: len(audio.samples)].cpu().numpy(), audio.sample_rate)

    def _mel(self, trial: Trial) -> tuple[Audio, torch.Tensor]:
        """The source and its mel (1, n_mels, T), with the silence behind it that all delays need."""
        audio = self.identity(trial)
        wav = np.pad(audio.samples, (0, self.converter.delay))
        return audio, self.converter.log_mel(torch.from_numpy(wav)[None, None].to(self.converter.device))

    def world(self, trial: Trial) -> Audio:
        """WORLD analysis and synthesis with the source's F0 moved to the target's mean: no learning at all.

        Morise et al., 2016; F0 by dio and stonemask.
        """
        import pyworld

        audio = self.identity(trial)
        hop = self.converter.autoencoder.config.mel.hop_length
        x, rate = audio.samples.astype(np.float64), audio.sample_rate
        f0 = f0_labels(audio.samples, rate, hop).astype(np.float64)
        references = [read(path, rate).samples for path in trial.references]
        target = np.concatenate([f0_labels(samples, rate, hop) for samples in references])
        times = np.arange(len(f0)) * hop / rate
        envelope = pyworld.cheaptrick(x, f0, times, rate)
        aperiodicity = pyworld.d4c(x, f0, times, rate)
        if f0.any() and target.any():
            f0 *= np.exp(np.log(target[target > 0]).mean() - np.log(f0[f0 > 0]).mean())
        out = pyworld.synthesize(f0, envelope, aperiodicity, rate, 1000 * hop / rate).astype(np.float32)
        return Audio(np.pad(out, (0, max(0, len(x) - len(out))))[: len(x)], rate)


def converted_by_others(folder: Path, trials: Sequence[Trial]) -> System:
    """Files that any other system made, named as the trials are: ID.wav, or another kind of audio.

    Raises EvaluationError where there is none of them at all; a single one that is missing is a failure.
    """
    files = {path.stem: path for path in find_audio(folder)}
    if not any(trial.id in files for trial in trials):
        raise EvaluationError(f"{folder}: holds no file named as a trial is, such as {trials[0].id}.wav")

    def get(trial: Trial) -> Audio:
        if trial.id not in files:
            raise EvaluationError(f"{folder}: no file of that name")
        return read(files[trial.id])

    return get


class Memory:
    """What judges heard, kept on disk by the content of the recording; the oldest is never thrown away."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def kept(cls, folder: Path | None) -> "Memory":
        """In a folder; by default in the user's cache."""
        from platformdirs import user_cache_path

        return cls(folder or user_cache_path("vcae") / "heard")

    def hear(self, judge: Judge, audio: Audio) -> Heard:
        """What this judge hears in it, now or when it heard it before. Raises JudgeError."""
        if self.folder is None:
            return judge.hear(audio)
        content = hashlib.sha256(audio.samples.tobytes() + str(audio.sample_rate).encode()).hexdigest()
        path = self.folder / f"{judge.name}-{judge.version}" / content[:2] / content[2:]
        text, array = path.with_suffix(".txt"), path.with_suffix(".npy")
        if text.exists():
            return text.read_text(encoding="utf-8")
        if array.exists():
            kept: Heard = np.load(array, allow_pickle=False)
            return kept
        heard = judge.hear(audio)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(heard, str):
            with replacing(text) as unfinished:
                unfinished.write_text(heard, encoding="utf-8")
        else:
            with replacing(array) as unfinished, unfinished.open("wb") as file:
                np.save(file, heard, allow_pickle=False)
        return heard


TO_TARGET = Measure(
    "cosine to target", True, 0.0, "Resemblyzer's cosine to the references of the target, 0 to 1"
)
TO_SOURCE = Measure("cosine to source", False, 1.0, "Resemblyzer's cosine to the source itself, 0 to 1")
NEARER = Measure(
    "nearer to target",
    True,
    0.0,
    "share that is nearer to the target's recordings than to the source speaker's, 0 to 1",
)
TO_TEXT = Measure(
    "WER to text", False, 1.0, "word error rate against the text of the source, where the list brings one"
)


class Panel:
    """All judges, asked together about the trials of one list."""

    def __init__(
        self,
        memory: Memory,
        voices: SpeakerSimilarity,
        words: Judge,
        melody: Judge,
        cepstrum: Judge,
        alone: Sequence[Judge],
    ) -> None:
        self.memory = memory
        self.voices, self.words, self.melody, self.cepstrum, self.alone = (
            voices,
            words,
            melody,
            cepstrum,
            alone,
        )
        self.read = lru_cache(maxsize=256)(read)

    @classmethod
    def complete(cls, memory: Memory, whisper: str | Path | None = None) -> "Panel":
        """All the judges there are. Raises JudgeError where one cannot be had."""
        alone = [Naturalness(), SignalQuality()]
        return cls(
            memory, SpeakerSimilarity(), Intelligibility(whisper), Melody(), CepstralDistortion(), alone
        )

    @property
    def measures(self) -> list[Measure]:
        """All that is measured, in the order of a table's columns."""
        judges = [self.words, *self.alone, self.melody, self.cepstrum]
        return [TO_TARGET, TO_SOURCE, NEARER, *(m for judge in judges for m in judge.measures), TO_TEXT]

    def hear(self, judge: Judge, path: Path) -> Heard:
        """What a judge hears in a natural recording. Raises JudgeError, naming the file."""
        try:
            return self.memory.hear(judge, self.read(path))
        except JudgeError as error:
            raise JudgeError(f"{path}: {error}") from None

    def voice(self, paths: Sequence[Path]) -> Heard:
        """The voice of a speaker in some natural recordings."""
        return self.voices.pool([self.hear(self.voices, path) for path in paths])

    def judge(self, trial: Trial, system: str, path: Path | None, failure: str | None) -> Result:
        """Ask all judges what a system made of a trial. Raises JudgeError for its natural recordings."""
        audio = read(path) if path and not failure else None
        judges = [self.voices, self.words, self.melody, self.cepstrum, *self.alone]
        try:
            heard = {judge.name: self.memory.hear(judge, audio) if audio else None for judge in judges}
        except JudgeError as error:  # too short, say: nothing that could be judged
            return self.judge(trial, system, path, str(error))
        scores = self._similarity(trial, heard[self.voices.name])
        transcript = heard[self.words.name]
        if system != "natural":  # which says something else
            if trial.language == "en":
                scores |= self.words.compare(transcript, self.hear(self.words, trial.source))
                to_text = self.words.compare(transcript, trial.text).get("WER")
                if to_text:
                    scores[TO_TEXT.name] = to_text
            scores |= self.melody.compare(heard[self.melody.name], self.hear(self.melody, trial.source))
        for judge in self.alone:
            scores |= judge.compare(heard[judge.name], None)
        if trial.parallel and (system != "natural" or trial.target != trial.parallel):
            reference = self.hear(self.cepstrum, trial.parallel)
            scores |= self.cepstrum.compare(heard[self.cepstrum.name], reference)
        return Result(trial, system, path, failure, scores, str(transcript or ""), heard[self.voices.name])

    def _similarity(self, trial: Trial, voice: Heard | None) -> dict[str, Score]:
        def cosine(paths: Sequence[Path]) -> float:
            return self.voices.compare(voice, self.voice(paths))["SECS"].value

        if voice is None:
            return {measure.name: Score(measure.worst) for measure in (TO_TARGET, TO_SOURCE, NEARER)}
        target = cosine(trial.references)
        nearer = target > cosine(trial.source_references or [trial.source])
        values = {TO_TARGET.name: target, TO_SOURCE.name: cosine([trial.source]), NEARER.name: float(nearer)}
        return {name: Score(value) for name, value in values.items()}


def evaluate(
    trials: Sequence[Trial],
    systems: Mapping[str, System],
    out: Path,
    panel: Panel,
    about: Mapping[str, str] | None = None,
    track: Track = untracked,
    embed: Callable[[Path], Heard] | None = None,
) -> Evaluation:
    """Let each system speak each trial and have it judged; recordings go to `out`/SYSTEM/ID.flac.

    A system that raises VcaeError, gives silence, or another length than the source by more than
    LENGTH_TOLERANCE, has failed that trial: it gets the worst scores, and counts. What is judged is the
    written file. `track` shows progress; `embed` gives the speaker code of a file.
    """
    results: dict[str, list[Result]] = {}
    for system, speak in systems.items():
        folder = out / system
        folder.mkdir(parents=True, exist_ok=True)
        results[system] = []
        for trial in track(trials, system):
            path, failure = _speak(speak, trial, folder / f"{trial.id}.flac", system, panel)
            results[system].append(panel.judge(trial, system, path, failure))
    natural = {path for trial in trials for path in trial.files}
    voices = {path: panel.hear(panel.voices, path) for path in sorted(natural)}
    spoken = {trial.source for trial in trials if trial.language == "en"}
    transcripts = {path: str(panel.hear(panel.words, path)) for path in sorted(spoken)}
    first = next(iter(results.values()))
    converted = {r.audio for r in first if r.audio and r.failure is None}
    codes = {path: embed(path) for path in sorted(natural | converted)} if embed else {}
    return Evaluation(results, panel.measures, about or {}, voices, codes, transcripts)


def _speak(
    speak: System, trial: Trial, path: Path, system: str, panel: Panel
) -> tuple[Path | None, str | None]:
    """The file that a system made of a trial, and why it counts as a failure, if it does."""
    try:
        audio = speak(trial)
    except VcaeError as error:
        return None, str(error)
    write(path, audio)
    if is_silent(audio.samples):
        return path, "is silent"
    length = panel.read(trial.source).duration
    if system != "natural" and abs(audio.duration - length) > LENGTH_TOLERANCE * length:
        return path, f"is {audio.duration:.2f} s long, the source {length:.2f} s"
    return path, None


def evaluate_list(
    pairs: Path,
    out: Path,
    converter: Converter,
    systems: Sequence[str] = (),
    converted: Path | None = None,
    whisper: str | Path | None = None,
    cache: Path | None = None,
    track: Track = untracked,
) -> Evaluation:
    """Evaluate a list of trials and write all of it to a new folder, with a report for the browser.

    systems: names of `Systems`, "vcae" if none is given and nothing was `converted` by others.
    Raises VcaeError, among others where the folder is not new.
    """
    from vcae import __version__

    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise EvaluationError(f"{out}: exists already; name a new folder, so that nothing is mixed or lost")
    trials = read_trials(pairs)
    known = Systems(converter).by_name
    unknown = [name for name in systems if name not in known]
    if unknown:
        raise EvaluationError(f"{unknown[0]}: no such system; there are {', '.join(known)}")
    chosen: dict[str, System] = {}
    if converted:
        chosen[converted.resolve().name] = converted_by_others(converted, trials)
    chosen |= {name: known[name] for name in systems or ([] if converted else ["vcae"])}
    panel = Panel.complete(Memory.kept(cache), whisper)
    about = {
        "list": f"{pairs.name}, {len(trials)} trials",
        "vcae": __version__,
        "weights": converter.made_by,
        "Whisper": panel.words.version,
    }
    evaluation = evaluate(trials, chosen, out, panel, about, track, converter.embed)
    evaluation.write_json(out / "results.json")
    write_report(out / "report.html", evaluation)
    return evaluation
