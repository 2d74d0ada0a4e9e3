"""The recipe of the restorer, and the figures of its evaluation."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_VOCODER, VOICES, noise, seeded, vowel

from vcae.audio import Audio, read, resample
from vcae.errors import VcaeError
from vcae.evaluation.metrics.base import Score
from vcae.inference.checkpoint import load
from vcae.model.restorer import Restorer, RestorerConfig
from vcae.model.vocoder import Vocoder
from vcae.training.run import phases_of
from vcae.uses.restore import SpeechRestorer

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import denoisers
import evaluate_restoration
import restore

RATE = 16_000
SMALL = RestorerConfig(TINY.mel, delay=3, width=16, hidden=32, dilations=(1,), pitches=24)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.slow
def test_the_toy_recipe_trains_and_starts_from_what_there_is(tmp_path):
    recipe = restore.Recipe(tiny=True, out=tmp_path / "a")
    restore.main(recipe)
    first = load(tmp_path / "a/restorer.safetensors", Restorer, RestorerConfig)
    (phase,) = phases_of(tmp_path / "a/restorer.safetensors")
    assert phase["settings"]["model"]["width"] == first.config.width
    start = tmp_path / "a/restorer.safetensors"
    again = dataclasses.replace(recipe, start=start)
    assert restore.describe(again).started_from == [phase]


def test_noise_for_training_leaves_the_held_out_classes_and_a_fold_aside(tmp_path):
    """Clips of ESC-10's layout, each of a class and a fold."""
    for number, name in enumerate(("Dog bark", "Rain", "Clock tick", "Rooster"), start=1):
        folder = tmp_path / "esc10" / f"{number:03d} - {name}"
        folder.mkdir(parents=True)
        for fold in (1, 5):
            Audio(0.1 * noise(RATE, seed=10 * number + fold).numpy(), RATE).write(
                folder / f"{fold}-{number}-A.wav"
            )
    samplers = restore.noise(restore.Recipe(corpora=tmp_path), tmp_path)
    ids = [sorted(sampler.bank.ids) for sampler in samplers]
    assert ids == [["1-1-A", "1-3-A"], ["5-1-A", "5-3-A"]]
    # More noise, a folder for each kind, is trained on.
    (tmp_path / "more/rooms").mkdir(parents=True)
    Audio(0.1 * noise(RATE).numpy(), RATE).write(tmp_path / "more/rooms/office.wav")
    train, validation = restore.noise(restore.Recipe(corpora=tmp_path, noise=(tmp_path / "more",)), tmp_path)
    assert sorted(train.bank.ids) == ["1-1-A", "1-3-A", "office"]
    assert train.bank.speaker_names == ["esc10/clock tick", "esc10/dog bark", "more/rooms"]
    assert sorted(validation.bank.ids) == ids[1]
    # So it is in a toy, whose noise is speech.
    more = (tmp_path / "more",)
    toy = restore.Recipe(corpora=tmp_path / "esc10/002 - Rain", noise=more, tiny=True)
    train, validation = restore.noise(toy, tmp_path)
    assert sorted(train.bank.ids) == ["1-2-A", "5-2-A", "office"]
    assert sorted(validation.bank.ids) == ["1-2-A", "5-2-A"]


def test_without_noise_there_is_no_training(tmp_path):
    with pytest.raises(VcaeError, match="holds no esc10; unpack ESC-10 there"):
        restore.noise(restore.Recipe(corpora=tmp_path), tmp_path)


def test_the_missing_band_counts_as_missing():
    wide = read(VOICES / "vcc2016-SF1-200001.flac", RATE)
    narrow = Audio(resample(resample(wide.samples, RATE, 8000), 8000, RATE), RATE)
    softer = Audio(wide.samples / 2, RATE)
    distance = evaluate_restoration.missing_band_distance
    assert distance(wide, wide) == 0
    assert 5 < distance(wide, softer) <= 6.03
    assert distance(wide, narrow) > 15


def test_noisy_cases_have_their_ratio(tmp_path):
    paths = [tmp_path / f"{k}.wav" for k in range(2)]
    for k, path in enumerate(paths):
        Audio(0.1 * noise(RATE // 2, seed=k).numpy(), RATE).write(path)
    clean = {"a": Audio(vowel(120.0)[0, 0].numpy(), RATE), "b": Audio(vowel(200.0)[0, 0].numpy(), RATE)}
    cases = list(evaluate_restoration.noisy_cases(clean, paths))
    assert [(c.name, c.condition) for c in cases] == [(n, f"{r} dB") for n in "ab" for r in (0, 5, 10)]
    for case in cases:
        added = case.seen.samples - case.clean.samples
        ratio = 10 * np.log10(np.square(case.clean.samples).mean() / np.square(added).mean())
        assert ratio == pytest.approx(float(case.condition.removesuffix(" dB")), abs=0.01)
        assert np.abs(case.seen.samples).max() <= 1


def test_telephone_cases_are_narrow_and_in_step():
    audio = read(VOICES / "vcc2016-SF1-200001.flac", RATE)
    plain, *others = evaluate_restoration.telephone_cases({"a": audio})
    assert [case.condition for case in (plain, *others)] == ["8 kHz", "G.711", "Opus"]
    for case in others:
        assert case.seen.sample_rate == 8000 and len(case.seen.samples) == len(plain.seen.samples)
        assert np.corrcoef(case.seen.samples, plain.seen.samples)[0, 1] > 0.9


def test_every_way_is_compared():
    restorer = SpeechRestorer(seeded(Restorer, SMALL), seeded(Vocoder, TINY_VOCODER))
    audio = Audio(vowel(120.0)[0, 0].numpy(), RATE)
    for task, case in (
        ("denoise", evaluate_restoration.Case("", "", audio, audio)),
        ("superres", next(evaluate_restoration.telephone_cases({"a": audio}))),
        ("revoice", evaluate_restoration.Case("", "", audio, audio)),
    ):
        made = {n: s(case) for n, s in evaluate_restoration.systems(task, restorer).items()}
        assert len(made) >= 3
        assert {len(each.samples) for each in made.values()} == {RATE}


def test_the_denoisers_that_are_installed_keep_clean_speech_in_step():
    wav = read(VOICES / "vcc2016-SF1-200001.flac", RATE).samples
    for name, denoise in denoisers.found().items():
        out = denoise(wav)
        assert out.shape == wav.shape and np.corrcoef(out, wav)[0, 1] > 0.8, name


def test_a_table_has_weighted_means():
    rows = [{"WER": Score(0.5, 1), "X": Score(1.0)}, {"WER": Score(0.0, 3)}]
    found = evaluate_restoration.table({("0 dB", "a"): rows, ("5 dB", "a"): rows[:1]})
    assert found.splitlines() == [
        *("| | | WER | X |", "|---|---|---|---|"),
        *("| 0 dB | a | 0.12 | 1.00 |", "| 5 dB | a | 0.50 | 1.00 |"),
    ]
