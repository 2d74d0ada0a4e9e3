"""Waveforms as other libraries give them."""

import io

import numpy as np
import pytest
import soundfile
import torch
from conftest import VOICES
from hypothesis import given
from hypothesis import strategies as st

import vcae
from vcae import Audio, AudioError
from vcae.audio import read

CLIP = VOICES / "vcc2016-SF1-200001.flac"
RATE = 16_000
WAVE = np.linspace(-0.5, 0.5, 1000, dtype=np.float32)

FORMS = {
    "float64": WAVE.astype(np.float64),
    "float16": WAVE.astype(np.float16),
    "int16": np.rint(WAVE * 2**15).astype(np.int16),
    "int32": np.rint(WAVE.astype(np.float64) * 2**31).astype(np.int32),
    "int8": np.rint(WAVE * 2**7).astype(np.int8),
    "uint8": np.rint(WAVE * 2**7 + 128).astype(np.uint8),
    "a list": WAVE.tolist(),
    "a tensor": torch.from_numpy(WAVE),
    "a tensor with gradient": torch.from_numpy(WAVE).requires_grad_(),
    "(1, N)": WAVE[None],
    "(N, 1)": WAVE[:, None],
    "(1, 1, N)": torch.from_numpy(WAVE)[None, None],
    "(N, 2)": np.stack([WAVE, WAVE], axis=1),
    "(2, N)": np.stack([WAVE, 0 * WAVE]),
    "int16 (N, 2)": np.rint(np.stack([WAVE, WAVE], axis=1) * 2**15).astype(np.int16),
    "big-endian": WAVE.astype(">f4"),
}
STEP = {"float16": 5e-4, "int8": 1 / 128, "uint8": 1 / 128}


@pytest.mark.parametrize("form", FORMS)
def test_samples_of_any_usual_form_are_the_same_waveform(form):
    audio = Audio(FORMS[form], RATE)
    assert audio.samples.dtype == np.float32 and audio.samples.dtype.isnative
    np.testing.assert_allclose(audio.samples, WAVE, atol=STEP.get(form, 1e-4))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (WAVE.astype(np.int64), "int64"),
        (WAVE > 0, "bool"),
        (WAVE.astype(np.complex64), "complex64"),
        (np.array(["a", "b"]), "give floats"),
        ([[1.0], [1.0, 2.0]], "give floats"),
        (None, "give floats"),
        (np.zeros((20, 30)), r"\(20, 30\)"),
        (np.zeros((2, 3, 100)), r"\(2, 3, 100\)"),
        (np.zeros((2, 2)), r"\(2, 2\)"),
    ],
)
def test_what_is_no_waveform_is_refused(samples, message):
    with pytest.raises(AudioError, match=message):
        Audio(samples, RATE)


@pytest.mark.parametrize("rate", [0, -1, 0.5, "16000", None, float("nan")])
def test_what_is_no_sample_rate_is_refused(rate):
    with pytest.raises((AudioError, ValueError), match=r"sample_rate|NaN"):
        Audio(WAVE, rate)


@given(st.sampled_from([np.int64(16_000), 16_000.0, np.float32(16_000)]))
def test_a_sample_rate_may_be_any_whole_number(rate):
    audio = Audio(WAVE, rate)
    assert audio.sample_rate == 16_000 and isinstance(audio.sample_rate, int)


def test_what_soundfile_reads_is_embedded_as_the_file_is():
    vc = vcae.load()
    for dtype in ("float64", "float32", "int16", "int32"):
        samples, rate = soundfile.read(CLIP, dtype=dtype)
        assert vc.embed(Audio(samples, rate)) @ vc.embed(CLIP) > 0.9999


@pytest.mark.parametrize("kind", ["pair", "file", "array", "none"])
def test_other_sources_are_refused_by_name(kind):
    source = {"pair": (RATE, WAVE), "file": io.BytesIO(CLIP.read_bytes()), "array": WAVE, "none": None}[kind]
    vc = vcae.load()
    for use in (vc.embed, vc.encode, lambda s: vc.convert(s, voice=CLIP)):
        with pytest.raises(AudioError, match=rf"{type(source).__name__}.*vcae\.Audio"):
            use(source)


def test_nothing_is_copied_that_fits():
    samples = read(CLIP).samples
    assert Audio(samples, RATE).samples is samples
