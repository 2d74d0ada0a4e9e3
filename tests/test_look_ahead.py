"""One look-ahead, one mel: at each of several a toy is trained, converts, streams and is probed."""

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_VOCODER, VOICES, seeded

from vcae import PRESETS, Audio, Autoencoder, Converter, MelConfig, Vocoder, load
from vcae.audio import Recording, read, write
from vcae.corpora import Utterance
from vcae.training.config import (
    AutoencoderStageConfig,
    DecoderMilestones,
    HeadsConfig,
    SamplerConfig,
    TrainConfig,
    VocoderStageConfig,
)
from vcae.training.data import Sampler
from vcae.training.heads import EncoderHeads
from vcae.training.labels import prepare
from vcae.training.recogniser import Recogniser, RecogniserConfig
from vcae.training.stages.autoencoder import AutoencoderStage
from vcae.training.stages.encoders import EncodersStage
from vcae.training.stages.vocoder import VocoderStage
from vcae.training.trainer import Trainer

RATE = 16_000
SOURCE, TARGET = VOICES / "vcc2016-SF1-200001.flac", VOICES / "vcc2016-SM1-200001.flac"
STEPS = 3


@cache
def sampler(mel: MelConfig) -> Sampler:
    utterances = [
        Utterance(path, path.stem, path.stem, "voices") for path in sorted(VOICES.glob("*.flac"))[:3]
    ]
    return Sampler(prepare(utterances, mel).bank, SamplerConfig(4, 0.8, 0.6, speeds=(1.0,)))


@pytest.fixture(scope="module", params=[*(("16k", delay) for delay in (0, 2, 4, 8, 24)), ("24k", 4)], ids=str)
def folder(request, tmp_path_factory) -> Path:
    """What training leaves: encoders first, then the whole autoencoder and the vocoder."""
    preset, delay = request.param
    config = dataclasses.replace(TINY, mel=PRESETS[preset], delay=delay)
    out = tmp_path_factory.mktemp("run")
    few = TrainConfig(steps=STEPS, warm_up=1, validate_steps=STEPS, validate_batches=1)
    speech = sampler(config.mel)
    model = seeded(Autoencoder, config)
    recogniser = seeded(Recogniser, RecogniserConfig(config.mel, width=16, stacks=2))
    heads = EncoderHeads(HeadsConfig(), config, speech.speakers)
    at_once = AutoencoderStageConfig(
        discriminator_channels=4,
        milestones=DecoderMilestones(discriminator=0, adversarial=0, conversion=0),
    )
    vocoder = seeded(Vocoder, dataclasses.replace(TINY_VOCODER, mel=config.mel))
    for stage in (
        EncodersStage(model, heads, speech, recogniser),
        AutoencoderStage(model, heads, speech, recogniser, at_once),
        VocoderStage(vocoder, speech, VocoderStageConfig(discriminator_channels=4)),
    ):
        result = Trainer(stage, out, few).run()
        assert all(np.isfinite(value) for value in result.validation.values())
    return out


@pytest.fixture
def converter(folder) -> Converter:
    return load(folder)


def test_what_was_trained_converts_and_streams(converter):
    config, rate = converter.autoencoder.config, converter.sample_rate
    source = read(SOURCE, rate).samples[: 3 * rate - 77]
    voice = converter.encode(TARGET).voice  # `voice` may find no speech, since hardly anything was learned
    out = converter.convert(Audio(source, rate), voice)
    assert len(out.samples) == len(source)
    stream = converter.stream(
        voice,
        source_voice=converter.encode(Audio(source, rate)).voice,
        level=Recording(Audio(source, rate), rate).level,
    )
    mel = config.mel
    assert stream.latency == mel.win_length + mel.hop_length * (config.delay + 1)
    blocks = [stream.feed(block) for block in np.array_split(source, 37)]
    streamed = np.concatenate([*blocks, stream.flush()])
    np.testing.assert_allclose(streamed, out.samples, atol=1e-4)


def test_what_is_encoded_has_a_frame_for_each_begun_step(converter):
    rate, step = converter.sample_rate, converter.step
    source = read(SOURCE, rate).samples[: rate - 77]
    content, prosody, _ = converter.encode(Audio(source, rate))
    assert content.shape[1] == -(-len(source) // step)
    assert prosody.shape[1] == 2 * content.shape[1]
    torch.testing.assert_close(converter.content(Audio(source, rate)).z, content)
    energy = np.log(np.sqrt((source[: len(source) // step * step].reshape(-1, step) ** 2).mean(1)) + 1e-3)
    frames = prosody[2, : 2 * len(energy)].reshape(-1, 2).mean(1).numpy()
    lags = {k: np.corrcoef(energy[8:-8], np.roll(frames, k)[8:-8])[0, 1] for k in range(-6, 7)}
    assert max(lags, key=lags.get) in (-1, 0)  # the window of a mel frame begins before its samples


def test_what_was_trained_can_be_probed(converter, tmp_path):
    probes = pytest.importorskip("vcae.evaluation.probes", reason="probes need the extra `eval`")
    pytest.importorskip("swift_f0")
    utterances = []
    for path in (SOURCE, TARGET):
        samples = read(path, RATE).samples
        for part, half in enumerate(np.array_split(samples, 2)):
            piece = tmp_path / f"{path.stem}-{part}.wav"
            write(piece, Audio(half, RATE))
            utterances.append(Utterance(piece, path.stem, piece.stem, "voices", language="de"))
    result = probes.probe(utterances, converter)
    assert result.speakers == 2 and result.utterances == 4
    assert np.isfinite([result.f0.code, result.f0.mel, result.speaker_linear.code]).all()
