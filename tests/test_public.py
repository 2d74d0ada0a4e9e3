"""The public names, and the README's example with the bundled weights."""

import numpy as np
import pytest
import torch
from conftest import VOICES

import vcae
from vcae.inference.checkpoint import BUNDLED

PUBLIC = [
    "PRESETS",
    "Anonymizer",
    "Audio",
    "AudioError",
    "Autoencoder",
    "AutoencoderConfig",
    "CheckpointError",
    "Code",
    "ContentEncoder",
    "Converter",
    "Detection",
    "LogMel",
    "MelConfig",
    "Parts",
    "Phone",
    "PhoneError",
    "SpeakerEncoder",
    "Stream",
    "Transcriber",
    "VcaeError",
    "Vocoder",
    "VocoderConfig",
    "Voice",
    "VoiceError",
    "detect",
    "load",
    "watermark",
]
WOMAN, MAN, OTHER = (
    VOICES / name
    for name in ("vcc2016-SF1-200001.flac", "vcc2016-SM1-200001.flac", "librispeech-26-495-0007.flac")
)


def test_the_public_names_are_these():
    assert vcae.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_can_be_imported_and_are_documented(name):
    thing = getattr(vcae, name)
    assert name == "PRESETS" or thing.__doc__


@pytest.mark.parametrize("error", [vcae.AudioError, vcae.CheckpointError, vcae.PhoneError, vcae.VoiceError])
def test_one_class_catches_what_a_user_can_mend(error):
    assert issubclass(error, vcae.VcaeError)
    assert issubclass(error, ValueError)


@pytest.fixture(scope="module")
def vc():
    return vcae.load()


def test_the_readme_converts(vc, tmp_path):
    out = vc.convert(str(WOMAN), voice=str(MAN))
    assert isinstance(out, vcae.Audio)
    assert out.sample_rate == vc.sample_rate == 16_000
    assert out.duration == pytest.approx(vcae.audio.read(WOMAN).duration, abs=1e-4)
    out.write(tmp_path / "converted.wav")
    assert np.abs(vcae.audio.read(tmp_path / "converted.wav").samples - out.samples).max() < 1e-4


def test_the_readme_keeps_and_mixes_voices(vc, tmp_path):
    anna, bob = vc.voice([WOMAN, VOICES / "vcc2016-TF2-200001.flac"]), vc.voice(MAN)
    mix = vcae.Voice.mix([anna, bob], [0.7, 0.3])
    mix.save(tmp_path / "ab.voice")
    out = vc.convert(OTHER, voice=tmp_path / "ab.voice")
    assert np.isfinite(out.samples).all()
    assert np.abs(out.samples).max() > 0.01


def test_the_readme_embeds(vc):
    one, other, third = (vc.embed(clip) for clip in (WOMAN, MAN, OTHER))
    assert one.ndim == 1
    assert np.linalg.norm([one, other, third], axis=1) == pytest.approx(1, abs=1e-5)
    assert float(one @ other) < 0.99


def test_the_readme_takes_content(vc):
    code = vc.content(WOMAN)
    assert isinstance(code, vcae.Code)
    assert code.z.shape[1] == -(-len(vcae.audio.read(WOMAN).samples) // 320)
    assert code.ids is None


def test_the_readme_has_a_speaker_encoder(vc):
    encoder = vcae.SpeakerEncoder.from_pretrained()
    assert isinstance(encoder, torch.nn.Module)
    assert not encoder.training
    wav = torch.from_numpy(vcae.audio.read(WOMAN, 16_000).samples)[None, None]
    with torch.inference_mode():
        embedding = encoder(vcae.LogMel(vcae.PRESETS["16k"])(wav))
    assert embedding.shape == (1, *vc.embed(WOMAN).shape)
    assert embedding.norm() == pytest.approx(1, abs=1e-5)
    assert embedding[0].numpy() @ vc.embed(WOMAN) > 0.99


def test_there_is_a_content_encoder(vc):
    encoder = vcae.ContentEncoder.from_pretrained()
    assert isinstance(encoder, vcae.ContentEncoder) and not encoder.training
    mel = torch.zeros(1, 80, 8)
    with torch.inference_mode():
        assert torch.equal(encoder(mel), vc.autoencoder.content(mel))


def test_studio_is_the_default_and_shares_voices_with_live(vc):
    live = vcae.load("live")
    assert vc.autoencoder.config.delay > live.autoencoder.config.delay
    assert live.stream(vc.voice(WOMAN)).latency == 0.07 * live.sample_rate
    np.testing.assert_array_equal(vc.embed(MAN), live.embed(MAN))
    assert len(live.convert(MAN, voice=vc.voice(WOMAN)).samples) == len(vc.convert(MAN, voice=WOMAN).samples)


def test_a_model_that_is_not_there_is_refused():
    with pytest.raises(vcae.CheckpointError, match=r"nowhere.*no such file; name a bundled model, studio or"):
        vcae.load("nowhere")


def test_the_bundled_weights_are_of_the_16k_preset_and_within_budget(vc):
    assert vc.autoencoder.config.mel == vc.vocoder.config.mel == vcae.PRESETS["16k"]
    assert not vc.autoencoder.bottleneck.discrete
    assert sum(p.numel() for p in vc.autoencoder.parameters()) <= 7.5e6
    assert sum(p.numel() for p in vc.vocoder.parameters()) <= 4e6
    sizes = [p.stat().st_size / 2**20 for p in BUNDLED.glob("*.safetensors")]
    assert max(sizes) < 15
    assert sum(sizes) < 52
