"""All metrics applied to one trial, with a cache on disk of what is slow to compute."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from vcae.audio import Audio, read
from vcae.evaluation.metrics.base import Heard, Judge, JudgeError, Measure, Score
from vcae.evaluation.metrics.distortion import CepstralDistortion
from vcae.evaluation.metrics.intelligibility import Intelligibility
from vcae.evaluation.metrics.naturalness import Naturalness
from vcae.evaluation.metrics.pitch import Melody
from vcae.evaluation.metrics.quality import SignalQuality
from vcae.evaluation.metrics.similarity import SpeakerSimilarity
from vcae.evaluation.results import Result
from vcae.evaluation.trials import Trial
from vcae.files import replacing


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
