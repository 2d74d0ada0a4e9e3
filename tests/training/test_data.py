"""From recordings to banks to batches."""

import contextlib
import dataclasses
import io
from collections.abc import Collection, Iterator

import numpy as np
import pytest
import soundfile
import torch
from conftest import VOICES
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vcae import audio
from vcae.audio import LEVEL, loudness
from vcae.cli.console import Tracker
from vcae.corpora.layouts import folder
from vcae.corpora.utterance import HeldOutError, Utterance
from vcae.errors import AudioError
from vcae.files import TensorFileError
from vcae.model.config import MelConfig
from vcae.model.phones import PHONES, SILENCE
from vcae.training.config import SamplerConfig
from vcae.training.data import Bank, Sampler
from vcae.training.labels import Prepared, bank_key, find_or_prepare, prepare

MEL = MelConfig()
GRID = 2 * MEL.hop_length
SPEEDS = (1.0, 0.82, 0.87, 0.91, 0.96, 1.04, 1.09, 1.15, 1.22)


def bank_of(*runs: np.ndarray, names: list[str] | None = None, labelled: list[bool] | None = None) -> Bank:
    """A bank of one recording a speaker. Labels show their place: F0 100 + frame, phone code frame % 40."""
    samples = torch.from_numpy(np.concatenate(runs).astype(np.int16))
    return Bank(
        samples=samples,
        f0=torch.cat([100 + torch.arange(len(r) // MEL.hop_length) for r in runs]).half(),
        phones=torch.cat([torch.arange(len(r) // GRID) % 40 for r in runs]).to(torch.int8),
        starts=torch.tensor([0, *np.cumsum([len(r) for r in runs])]),
        speakers=torch.arange(len(runs)),
        labelled=torch.tensor(labelled or [True] * len(runs)),
        speaker_names=names or [f"test/{i}" for i in range(len(runs))],
        ids=[str(i) for i in range(len(runs))],
        texts=[None] * len(runs),
    )


def ramp(code_frames: int) -> np.ndarray:
    """Samples that show their place: sample p has the value p - 30,000. Interpolation is exact on it."""
    assert code_frames * GRID < 60_000
    return np.arange(code_frames * GRID) - 30_000


def place(samples: torch.Tensor) -> torch.Tensor:
    """Where in a ramp a cut was made."""
    return samples.double() * 32768 + 30_000


def cut(bank: Bank, speaker: int, start: float, rate: float, length: int) -> torch.Tensor:
    args = torch.tensor([speaker]), torch.tensor([start]).double(), torch.tensor([rate])
    return bank.cut(*args, length)[0, 0]


def sampler(bank: Bank, batch_size: int = 64, **options) -> Sampler:
    """Crops of 0.4 and 0.6 s, as loud as the bank."""
    probabilities = options.pop("speaker_probabilities", None)
    config = SamplerConfig(batch_size, 0.4, 0.6, **{"gain_db": (0.0, 0.0), "power": 0.3} | options)
    return Sampler(bank, config, probabilities)


def drawn(source: Sampler, seed: int = 0):
    return source.batch(torch.Generator().manual_seed(seed))


# Preparing


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> list[Utterance]:
    """Two pieces of speech each of three speakers, a file that is no audio, and a silent one."""
    from librosa.effects import trim  # noqa: F401 -- here once, not in every process that prepare forks

    folder = tmp_path_factory.mktemp("corpus")
    files = sorted(VOICES.glob("*.flac"))[:3]
    if len(files) < 3:
        pytest.skip(f"no speech to test with: {VOICES} holds no three .flac")
    found = []
    for k, file in enumerate(files):
        speech = audio.read(file, 16_000).samples
        for part in range(2):
            path = folder / f"{k}-{part}.wav"
            soundfile.write(path, speech[16_000 + part * 20_000 :][: 17_000 + 100 * k], 16_000)
            found.append(Utterance(path, f"test/{k}", f"{part}", "test", "Hello there", "en", labelled=k < 2))
    (folder / "broken.wav").write_bytes(b"RIFF and then nothing of the kind")
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    found += [Utterance(folder / f"{n}.wav", "test/0", n, "test") for n in ("broken", "silent")]
    return found[::-1]  # not in order


@pytest.fixture(scope="module")
def prepared_and_output(recordings) -> tuple[Prepared, str]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        prepared = prepare(recordings, MEL)
    return prepared, output.getvalue()


@pytest.fixture
def prepared(prepared_and_output) -> Bank:
    return prepared_and_output[0].bank


def test_files_that_are_no_speech_are_skipped_and_reported(prepared_and_output):
    (bank, skipped), output = prepared_and_output
    assert not {"broken", "silent"} & set(bank.ids)
    assert len(skipped) == 2
    assert all(any(name in line for line in skipped) for name in ("broken.wav", "silent.wav"))
    assert not any("\n" in line for line in skipped)
    assert output == ""  # who prepares decides what is shown


def test_preparing_goes_through_every_recording_once(recordings):
    tracked: list[tuple[str, str]] = []

    def track(items: Collection[Utterance], task: str) -> Iterator[Utterance]:
        for item in items:
            tracked.append((task, item.id))
            yield item

    bank, skipped = prepare(recordings, MEL, track=track)
    assert len(tracked) == len(recordings) == len(bank.ids) + len(skipped)
    assert len({task for task, _ in tracked}) == 1


def test_recordings_lie_by_speaker_in_whole_code_frames(prepared):
    assert prepared.speaker_names == ["test/0", "test/1", "test/2"]
    assert prepared.speakers.tolist() == [0, 0, 1, 1, 2, 2]
    assert prepared.ids == ["0", "1"] * 3
    assert prepared.labelled.tolist() == [True, True, False]
    assert (prepared.starts % GRID == 0).all()
    assert prepared.starts[-1] == len(prepared.samples)
    assert prepared.speaker_starts.tolist() == prepared.starts[::2].tolist()
    assert prepared.hours == pytest.approx(len(prepared.samples) / 16_000 / 3600)


def test_every_hop_has_an_f0_and_every_code_frame_a_phone(prepared):
    assert len(prepared.f0) * MEL.hop_length == len(prepared.samples)
    assert len(prepared.phones) * GRID == len(prepared.samples)
    voiced = prepared.f0[prepared.f0 > 0]
    assert 0.2 < len(voiced) / len(prepared.f0) < 0.95
    assert voiced.min() >= 50 and voiced.max() <= 600


def test_english_text_becomes_the_phones_that_are_spoken():
    """More of vowels and nasals is voiced than of fricatives; nothing is known without English text."""
    said = [u for u in folder(VOICES, transcripts=VOICES) if u.text]
    said.append(dataclasses.replace(said[0], speaker="test/silent", text=None))
    said.append(dataclasses.replace(said[0], speaker="test/foreign", language="ru"))
    bank = prepare(said, MEL).bank
    names = [bank.speaker_names[s] for s in bank.speakers]
    phones = [bank.phones[a // GRID : b // GRID] for a, b in zip(bank.starts, bank.starts[1:], strict=False)]
    for name, found in zip(names, phones, strict=True):
        known = float((found >= 0).float().mean())
        assert known == 0 if name.startswith("test/") else known > 0.8, name
    voiced = bank.f0.reshape(-1, 2)[:, 0] > 0

    def share(*phones: str) -> float:
        of = torch.isin(bank.phones, torch.tensor([PHONES.index(p) for p in phones]))
        return float(voiced[of].float().mean())

    assert share("AA", "AE", "IY", "AY", "M", "N") > 0.7
    assert share("S", "SH", "F", "T", "K") < 0.4
    assert share(SILENCE) < 0.3


def test_recordings_are_brought_to_one_level(prepared):
    for begin, end in zip(prepared.starts, prepared.starts[1:], strict=False):
        samples = prepared.samples[begin:end].numpy() / np.float32(32768)
        peak = abs(samples).max()
        assert loudness(samples, 16_000) == pytest.approx(LEVEL, abs=0.5) or peak == pytest.approx(0.99, 1e-2)


def test_texts_are_kept_only_in_english(recordings):
    few = [u for u in recordings if u.speaker == "test/1"]
    few[0] = dataclasses.replace(few[0], language="fr")
    assert sorted(prepare(few, MEL).bank.texts, key=str) == ["Hello there", None]


def test_held_out_speakers_are_refused(recordings):
    with pytest.raises(HeldOutError, match="test/1"):
        prepare([dataclasses.replace(u, held_out="test") for u in recordings if u.speaker == "test/1"], MEL)


def test_nothing_readable_is_an_error(recordings):
    with pytest.raises(AudioError, match="no recording"):
        prepare([u for u in recordings if u.id in ("broken", "silent")], MEL)


def test_a_bank_comes_back_from_disk(prepared, tmp_path):
    prepared.save(tmp_path / "bank")
    again = Bank.load(tmp_path / "bank")
    for f in dataclasses.fields(Bank):
        kept, found = getattr(prepared, f.name), getattr(again, f.name)
        if isinstance(kept, torch.Tensor):
            assert kept.dtype == found.dtype and torch.equal(kept, found), f.name
        else:
            assert kept == found, f.name
    assert [p.name for p in tmp_path.iterdir()] == ["bank"]


def test_what_is_no_bank_is_refused(tmp_path):
    (tmp_path / "bank").write_bytes(b"no")
    with pytest.raises(TensorFileError, match="bank"):
        Bank.load(tmp_path / "bank")


def test_a_bank_is_kept_for_the_data_that_made_it(recordings, tmp_path):
    made, skipped = find_or_prepare(tmp_path, "train", recordings, MEL)
    (path,) = tmp_path.glob("train-*.bank")
    written = path.stat().st_mtime_ns
    assert len(skipped) == 2
    again = find_or_prepare(tmp_path, "train", recordings[::-1], MEL).bank
    assert again.fingerprint == made.fingerprint
    assert path.stat().st_mtime_ns == written

    fewer = find_or_prepare(tmp_path, "train", recordings[:-1], MEL).bank
    assert fewer.fingerprint != made.fingerprint
    assert len(list(tmp_path.glob("train-*.bank"))) == 2
    with pytest.raises(HeldOutError):  # also where there is a bank of them
        find_or_prepare(tmp_path, "train", [dataclasses.replace(u, held_out="test") for u in recordings], MEL)


def test_a_key_depends_on_what_makes_a_bank(recordings):
    def key(change=lambda u: u, mel: MelConfig = MEL) -> str:
        return bank_key([change(recordings[0]), *recordings[1:]], mel)

    def changed(**options):
        return lambda u: dataclasses.replace(u, **options)

    others = [
        key(mel=dataclasses.replace(MEL, hop_length=320)),
        bank_key(recordings[1:], MEL),
        *(key(changed(**{name: "other"})) for name in ("speaker", "id", "text", "language")),
        key(changed(labelled=not recordings[0].labelled)),
        key(changed(path=recordings[1].path)),
    ]
    assert len({key(), *others}) == 1 + len(others)
    assert key() == bank_key(recordings[::-1], MEL)
    moved = recordings[0].path.parent / ".." / recordings[0].path.parent.name / recordings[0].path.name
    assert key(changed(path=moved)) == key()  # wherever the corpora lie


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": ["1", "0"]},
        {"texts": ["a", None]},
        {"speaker_names": ["test/0", "test/2"]},
        {"hop_length": 80},
    ],
)
def test_a_fingerprint_depends_on_the_data(changes):
    bank = bank_of(ramp(3), ramp(4))
    assert bank.fingerprint == bank_of(ramp(3), ramp(4)).fingerprint
    assert dataclasses.replace(bank, **changes).fingerprint != bank.fingerprint
    assert bank_of(ramp(4), ramp(3)).fingerprint != bank.fingerprint


def test_progress_is_shown_without_a_terminal():
    written = io.StringIO()
    assert list(Tracker(Console(file=written), seconds=0)([1, 2, 3], "Reading")) == [1, 2, 3]
    assert written.getvalue().splitlines() == [f"Reading: {k} of 3" for k in range(3)]
    assert list(Tracker(Console(file=io.StringIO()))(range(3), "Reading")) == [0, 1, 2]


# Cutting


@given(st.integers(0, 1), st.integers(0, 10 * GRID - 1), st.integers(1, 12 * GRID))
def test_cut_at_rate_one_is_the_samples_and_wraps_within_the_speaker(speaker, start, length):
    runs = [np.random.default_rng(k).integers(-32768, 32767, 10 * GRID) for k in range(2)]
    wanted = np.take(runs[speaker], np.arange(start, start + length), mode="wrap") / 32768
    assert np.array_equal(cut(bank_of(*runs), speaker, start, 1.0, length).numpy(), wanted.astype(np.float32))


@pytest.mark.parametrize("rate", SPEEDS)
def test_cut_moves_a_tone_by_the_rate(rate):
    tone = 20_000 * np.sin(2 * np.pi * 500 * np.arange(100 * GRID) / 16_000)
    power = (cut(bank_of(tone), 0, 320.0, rate, 16_000) * torch.hann_window(16_000)).double()
    spectrum = torch.fft.rfft(power).abs()  # a bin a Hertz
    assert spectrum.argmax() == pytest.approx(500 * rate, abs=1)
    assert spectrum[: int(400 * rate)].max() < 1e-3 * spectrum.max()


@pytest.mark.parametrize("rate", SPEEDS)
def test_cut_takes_samples_at_the_rate(rate):
    found = place(cut(bank_of(ramp(100)), 0, 640.0, rate, 16_000))
    assert torch.allclose(found, 640 + rate * torch.arange(16_000).double(), atol=0.02)


# Batches

LONG = bank_of(ramp(187), ramp(180), labelled=[True, False])


@pytest.mark.parametrize("seed", range(3))
def test_labels_stay_in_step_with_the_cut(seed):
    batch = drawn(sampler(LONG), seed)
    run = (LONG.speaker_starts[1:] - LONG.speaker_starts[:-1])[(batch.speaker < 0).long()][:, None]
    labelled = batch.speaker >= 0
    speeds = torch.tensor(SPEEDS)[batch.speaker % 9][labelled][:, None]
    at = place(batch.source[labelled, 0])  # (B, N)

    frames = at[:, :: MEL.hop_length] / MEL.hop_length
    off = (batch.f0[labelled] / speeds - 100 - frames).abs()
    total = run[labelled] / MEL.hop_length
    off = torch.minimum(off, (total - off).abs())
    near_the_end = (frames < 2) | (frames > total - 3)  # there the interpolation joins end and start
    assert off[~near_the_end].max() <= 0.51

    middle = at[:, GRID // 2 :: GRID] / GRID
    phone = batch.phones[labelled]
    off = (phone - middle.floor()) % 40
    near_the_end = (middle < 1) | (middle > run[labelled] / GRID - 2)
    assert set(off[~near_the_end].tolist()) <= {0, 1, 39}
    exact = (speeds == 1).expand_as(off) & ~near_the_end
    assert (off[exact] == 0).all()


@pytest.mark.parametrize("speeds", [(1.0,), SPEEDS])
def test_source_and_reference_do_not_overlap(speeds):
    """Not by a sample, where the run is just long enough for both."""
    bank = bank_of(ramp(61))  # 0.4 and 0.6 s at the highest speed
    for seed in range(3):
        batch = drawn(sampler(bank, speeds=speeds), seed)
        rate = torch.tensor(speeds)[batch.speaker].double()
        begin, elsewhere = place(batch.source[:, 0, 0]), place(batch.reference[:, 0, 0])
        after = (elsewhere - begin) % (61 * GRID)
        assert (after - batch.source.shape[-1] * rate).min() > -0.5
        assert (after + batch.reference.shape[-1] * rate).max() < 61 * GRID + 0.5


def test_crops_reach_everywhere():
    starts = torch.cat([place(drawn(sampler(bank_of(ramp(50))), k).source[:, 0, 0]) for k in range(8)])
    assert set((starts / GRID).round().int().tolist()) == set(range(50))


def test_a_short_run_still_fills_a_batch():
    batch = drawn(sampler(bank_of(ramp(3))))
    assert batch.source.shape == (64, 1, 6400) and batch.reference.shape == (64, 1, 9600)


@given(st.integers(0, 2**40))
def test_a_batch_depends_on_its_generator_alone(seed):
    torch.rand(seed % 7)  # whatever happened before
    first, again, other = (drawn(sampler(LONG, 4), s) for s in (seed, seed, seed + 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.source, other.source)


def test_a_batch_has_the_shapes_it_promises():
    batch = drawn(sampler(LONG, 3))
    shapes = {name: tuple(x.shape) for name, x in batch._asdict().items()}
    assert shapes == {
        "source": (3, 1, 6400),
        "reference": (3, 1, 9600),
        "f0": (3, 40),
        "speaker": (3,),
        "phones": (3, 20),
    }


def test_gain_is_within_its_range():
    bank = bank_of(np.full(100 * GRID, 8192))
    batch = drawn(sampler(bank, 200, gain_db=(-12.0, 6.0)))
    db = 20 * (batch.source[:, 0].mean(-1) / 0.25).log10()
    assert -12.01 < db.min() < -9 and 3 < db.max() < 6.01


def test_pseudo_speakers_have_labels_and_pitch_of_their_own():
    bank = bank_of(ramp(180), ramp(187), ramp(150))
    bank.f0.fill_(200)
    source = sampler(bank, 900)
    batch = drawn(source)
    assert source.speakers == 27
    assert set(batch.speaker.tolist()) == set(range(27))
    rate = torch.tensor(SPEEDS)[batch.speaker % 9]
    assert torch.allclose(batch.f0, 200 * rate[:, None].expand_as(batch.f0))
    step = place(batch.source[:, 0]).diff().median(-1).values
    assert torch.allclose(step, rate.double(), atol=0.01)
    assert 0.5 < (rate == 1).double().mean() < 0.72  # half as they are, and a ninth of the other half


def test_unlabelled_speakers_have_no_label():
    batch = drawn(sampler(bank_of(ramp(180), ramp(187), labelled=[False, True])))
    assert set(batch.speaker.tolist()) <= {-1, *range(9, 18)}
    assert (batch.speaker == -1).any() and (batch.speaker > 0).any()


# How often


@given(st.lists(st.integers(1, 100), min_size=2, max_size=6), st.floats(0, 1))
def test_speaker_probabilities_are_a_power_of_the_hours(frames, power):
    found = bank_of(*(np.zeros(n * GRID) for n in frames)).speaker_probabilities(power)
    assert found.sum() == pytest.approx(1)
    wanted = torch.tensor(frames).double() ** power
    assert torch.allclose(found, wanted / wanted.sum())


@pytest.mark.parametrize(
    "at_most",
    [{"big": 0.2}, {"big": 0.2, "small": 0.9}, {"big": 0.25, "small": 0.1}, {"small": 0.1, "big": 0.25}],
)
def test_speaker_probabilities_respect_every_cap(at_most):
    names = ["big/1", "big/2", "other/1", "small/1", "small/2"]
    bank = bank_of(*(np.zeros(n * GRID) for n in (90, 80, 10, 40, 30)), names=names)
    found = bank.speaker_probabilities(1.0, at_most)
    assert found.sum() == pytest.approx(1)
    for prefix, share in at_most.items():
        inside = torch.tensor([n.startswith(prefix) for n in names])
        assert found[inside].sum() <= share + 1e-9, prefix
    assert found[0] / found[1] == pytest.approx(90 / 80)


def test_a_cap_that_is_not_reached_changes_nothing():
    bank = bank_of(*(np.zeros(n * GRID) for n in (10, 20)), names=["a/1", "b/1"])
    assert torch.equal(bank.speaker_probabilities(1.0, {"a": 0.9, "c": 0.1}), bank.speaker_probabilities(1.0))


def test_speakers_are_drawn_by_their_probabilities():
    batch = drawn(sampler(bank_of(ramp(100), ramp(100)), 200, speaker_probabilities=torch.tensor([0.9, 0.1])))
    assert 0.82 < (batch.speaker < 9).double().mean() < 0.98
