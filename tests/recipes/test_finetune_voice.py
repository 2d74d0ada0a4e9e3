"""Fine-tuning of a voice, with tiny networks."""

import pytest
import torch
from conftest import VOICES, save_weights
from test_recipes import script

import vcae
from vcae.files import load_tensors

pytestmark = pytest.mark.slow

CLIPS = sorted(VOICES.glob("*.flac"))


def test_a_voice_is_tuned_to_recordings_and_converts(tmp_path):
    weights, out = save_weights(tmp_path / "tiny"), tmp_path / "anna.voice"
    words = [*CLIPS, "--out", out, "--model", weights, "--run", tmp_path / "run"]
    done = script("finetune_voice", *words, "--training.steps", "12", "--training.validate-steps", "4")
    assert done.returncode == 0, done.stderr
    assert "validation" in done.stderr
    voice = vcae.Voice.load(out)
    assert voice.adapter.up.abs().max() > 0 and all(x.isfinite().all() for x in voice.adapter)
    assert out.stat().st_size < 100_000
    # Only the changes are trained and kept.
    names = {n for n in load_tensors(tmp_path / "run" / "voice.ckpt")[0] if n.startswith("stage.")}
    assert {n.split(".")[1] for n in names} <= {"adapter", "log_mel"}
    converter = vcae.load(weights)
    plain = converter.voice(CLIPS)
    assert torch.equal(voice.embedding, plain.embedding)
    assert converter.convert(CLIPS[0], out).duration > 3


def test_too_little_speech_is_told(tmp_path):
    weights, out = save_weights(tmp_path / "tiny"), tmp_path / "a.voice"
    done = script("finetune_voice", CLIPS[0], "--out", out, "--model", weights)
    assert done.returncode == 2
    assert "seconds of speech are too few; give 20 or more" in done.stderr
    assert not out.exists()
