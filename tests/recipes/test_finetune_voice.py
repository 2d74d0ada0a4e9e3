"""Fine-tuning of a voice, with tiny networks."""

import pytest
import torch
from conftest import VOICES, save_weights
from test_recipes import script
from tiny_teachers import write_teachers

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


def test_another_network_may_judge_the_conversions(tmp_path):
    weights, out = save_weights(tmp_path / "tiny"), tmp_path / "anna.voice"
    _, campplus = write_teachers(tmp_path)
    words = [*CLIPS, "--out", out, "--model", weights, "--run", tmp_path / "run", "--campplus", campplus]
    words += ["--training.steps", "4", "--training.validate-steps", "4", "--front-end.steps", "2"]
    done = script("finetune_voice", *words, "--embeddings.crops", "1", "--embeddings.seconds", "0.5")
    assert done.returncode == 0, done.stderr
    assert vcae.Voice.load(out).adapter.up.abs().max() > 0
    # The judge is neither trained nor kept.
    names = {n for n in load_tensors(tmp_path / "run" / "voice.ckpt")[0] if n.startswith("stage.")}
    assert {n.split(".")[1] for n in names} <= {"adapter", "log_mel"}


def test_a_judge_that_is_none_is_told(tmp_path):
    out = tmp_path / "a.voice"
    done = script("finetune_voice", *CLIPS, "--out", out, "--campplus", CLIPS[0])
    assert done.returncode == 2
    assert f"{CLIPS[0]}: does not hold CAM++" in done.stderr and "Traceback" not in done.stderr
    assert not out.exists()


def test_too_little_speech_is_told(tmp_path):
    weights, out = save_weights(tmp_path / "tiny"), tmp_path / "a.voice"
    done = script("finetune_voice", CLIPS[0], "--out", out, "--model", weights)
    assert done.returncode == 2
    assert "seconds of speech are too few; give 20 or more" in done.stderr
    assert not out.exists()
