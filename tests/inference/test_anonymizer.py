"""Invented voices: the same again for secret and name, other ones otherwise, and far from everybody."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import VOICES, noise
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import vcae
from vcae import Anonymizer, Audio, CheckpointError, VcaeError, Voice, audio
from vcae.inference.anonymizer import FAR, POPULATION, Population, vector
from vcae.model.prosody import F0_CEIL, F0_FLOOR, F0Statistics

WORDS = "sixteen or more characters"
CLIPS = sorted(VOICES.glob("*.flac"))
names = st.text(min_size=1, max_size=20)


@pytest.fixture(scope="module")
def vc():
    return vcae.load()


@pytest.fixture(scope="module")
def anonymizer(vc):
    return Anonymizer(vc, WORDS)


@pytest.fixture(scope="module")
def real(vc):
    return vc.voice(CLIPS[0])


def person(seed, made_by="x"):
    """A voice with another F0 for each seed."""
    f0 = F0Statistics.around(np.log(90 + 20 * (seed % 8)), 0.15 + 0.01 * (seed % 5), 500)
    return Voice(F.normalize(noise(24, seed=seed), dim=0), noise(4, 3, seed=seed + 1), f0, made_by)


def equal(a, b):
    return torch.equal(a.embedding, b.embedding) and torch.equal(a.tokens, b.tokens) and a.f0 == b.f0


@given(name=names, other=names)
def test_secret_and_name_decide_the_voice(vc, anonymizer, name, other):
    voice = anonymizer.voice(name)
    assert equal(voice, Anonymizer(vc, WORDS.encode()).voice(name))
    assert equal(voice, anonymizer.voice(other)) == (name == other)
    assert not equal(voice, Anonymizer(vc, WORDS + "!").voice(name))


@given(name=names)
def test_a_voice_is_far_from_everybody_and_plausible(anonymizer, real, name):
    voice = anonymizer.voice(name)
    assert float((anonymizer.population.people @ voice.embedding).max()) < FAR
    assert float(voice.embedding.norm()) == pytest.approx(1, abs=1e-5)
    assert voice.tokens.shape == real.tokens.shape
    assert 0.5 < float(voice.tokens.norm() / real.tokens.norm()) < 2
    assert F0_FLOOR < np.exp(voice.f0.mean) < F0_CEIL
    assert 0.03 < voice.f0.std < 1


def test_a_voice_is_far_from_the_own_one(vc, anonymizer):
    first = anonymizer.voice("anna")
    people = torch.cat([anonymizer.population.people, first.embedding[None]])
    crowded = dataclasses.replace(anonymizer.population, people=people)
    other = Anonymizer(vc, WORDS, crowded).voice("anna")
    assert not equal(first, other)
    assert float(first.embedding @ other.embedding) < FAR
    own = [CLIPS[0], "missing.wav", CLIPS[0]]
    assert float(anonymizer.voice("anna", own).embedding @ torch.from_numpy(vc.embed(CLIPS[0]))) < FAR


def test_it_converts_and_is_saved(vc, anonymizer, tmp_path):
    source = Audio(audio.read(CLIPS[0], 16_000).samples[8_000:40_000], 16_000)
    voice = anonymizer.voice("anna", [source])
    out = vc.convert(source, voice)
    assert len(out.samples) == 32_000 and np.abs(out.samples).max() > 0.01
    voice.save(tmp_path / "anna.voice")
    assert equal(Voice.load(tmp_path / "anna.voice"), voice)


@pytest.mark.parametrize("secret", ["", "short", b"fifteen bytes.."])
def test_a_secret_that_can_be_guessed_is_refused(vc, secret):
    with pytest.raises(VcaeError, match=r"can be guessed; use 16 or more"):
        Anonymizer(vc, secret)


def test_voices_of_another_encoder_are_refused(vc):
    population = Population.of([person(seed) for seed in range(24)])
    with pytest.raises(VcaeError, match="use the model studio or live"):
        Anonymizer(vc, WORDS, population)


def test_where_nobody_is_far_from_everybody_is_told(vc, monkeypatch):
    monkeypatch.setattr("vcae.inference.anonymizer.FAR", -2.0)
    monkeypatch.setattr("vcae.inference.anonymizer.MOST_DRAWS", 3)
    with pytest.raises(VcaeError, match="for anna; take another secret"):
        Anonymizer(vc, WORDS).voice("anna")


def test_draws_have_the_statistics_of_the_voices():
    voices = [person(seed) for seed in range(80)]
    population = Population.of(voices, components=30)
    rng = np.random.default_rng(0)
    drawn = [population.draw(iter(rng.uniform(size=31).tolist())) for _ in range(400)]
    real, made = (torch.stack([vector(v) for v in each]) for each in (voices, drawn))
    # Speaker codes have unit norm in both; of the tokens and F0, mean and spread must agree.
    for part in (slice(24, 36), slice(36, 37)):
        assert torch.allclose(real[:, part].mean(0), made[:, part].mean(0), atol=0.3)
        assert 0.6 < float(made[:, part].std() / real[:, part].std()) < 1.3


def test_a_population_survives_its_file(tmp_path):
    population = Population.of([person(seed) for seed in range(24)])
    population.save(tmp_path / "p.safetensors")
    loaded = Population.load(tmp_path / "p.safetensors")
    assert (loaded.tokens, loaded.made_by) == (population.tokens, "x")
    assert float((loaded.people * population.people).sum(1).min()) > 0.999
    numbers = np.linspace(0.1, 0.9, 1 + population.components.shape[1]).tolist()
    a, b = (p.draw(iter(numbers)) for p in (population, loaded))
    assert torch.allclose(a.embedding, b.embedding, atol=0.01)


def test_too_few_voices_are_refused():
    with pytest.raises(VcaeError, match="too few"):
        Population.of([person(0)] * 9)


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "p.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"p\.safetensors: not a model of voices"):
        Population.load(path)


def test_the_bundled_one_is_small():
    assert POPULATION.stat().st_size <= 200_000
