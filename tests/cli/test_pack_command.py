"""The commands pack and unpack."""

from pathlib import Path

import numpy as np
import pytest
from conftest import FSQ, save_weights, seeded
from test_cli import SOURCE, TARGET, leftovers, names, refused, vcae_, weights  # noqa: F401 -- fixtures

from vcae import audio
from vcae.inference import checkpoint
from vcae.inference.checkpoint import fingerprint
from vcae.model.prosody import ProsodyPredictor, ProsodyPredictorConfig


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    """A folder with a discrete model and its prosody predictor."""
    folder = save_weights(tmp_path_factory.mktemp("weights") / "units", FSQ)
    autoencoder = checkpoint.load_autoencoder(folder / "autoencoder.safetensors")
    content = fingerprint(autoencoder.content, autoencoder.bottleneck)
    config = ProsodyPredictorConfig(FSQ.mel, content, dim=FSQ.content_dim, width=8, hidden=8)
    files = checkpoint.model_files(folder)
    checkpoint.save(files.prosody, seeded(ProsodyPredictor, config))
    return folder


@pytest.fixture
def run(vcae_, units):  # noqa: F811 -- the fixture
    return lambda *words: vcae_(*words, "--model", units)


def test_a_recording_is_packed_with_its_rate_and_spoken_again(run):
    done = run("pack", SOURCE, "--out", "a.packed")
    size = Path("a.packed").stat().st_size
    assert done.code == 0 and done.out.startswith(f"a.packed: {size} bytes, ")
    assert run("unpack", "a.packed", "--out", "a.wav").code == 0
    assert run("unpack", "a.packed", "--voice", TARGET, "--out", "b.flac").code == 0
    own, other = audio.read("a.wav").samples, audio.read("b.flac").samples
    length = len(audio.read(SOURCE).samples)
    assert length <= len(own) == len(other) < length + 320
    assert not np.array_equal(own, other)


def test_folders_are_packed_and_unpacked(run):
    assert run("pack", SOURCE, TARGET, "--out", "packed/").code == 0
    assert names("packed") == [f"{path.stem}.packed" for path in (TARGET, SOURCE)]
    assert run("unpack", "packed", "--out", "new", "--format", "flac").code == 0
    assert names("new") == [f"{path.stem}.flac" for path in (TARGET, SOURCE)]
    again = run("unpack", "packed", "--out", "new", "--format", "flac")
    assert again.code == 0 and "2 of 2 were converted before" in again.err


def test_what_cannot_be_packed_or_unpacked_is_told_in_one_line(run, vcae_, weights, tmp_path):  # noqa: F811
    assert refused(run("pack", "missing.wav", "--out", "a.packed"), "missing.wav")
    assert refused(run("pack", SOURCE, "--out", "a.wav"), "a.wav", ".packed")
    assert refused(vcae_("pack", SOURCE, "--out", "a.packed", "--model", weights), "--model units")
    assert refused(run("unpack", SOURCE, "--out", "a.wav"), SOURCE, "no packed recording")
    assert refused(run("unpack", tmp_path, "--out", "a.wav"), tmp_path, "holds no .packed files")
    assert run("pack", SOURCE, "--without-voice", "--out", "bare.packed").code == 0
    done = run("unpack", "bare.packed", "--out", "a.wav")
    assert refused(done, "bare.packed", "--voice")
    assert not leftovers(".")
