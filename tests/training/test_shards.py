"""Shards: what is written is read, batches depend on the step alone, and memory is bounded."""

import json
import shutil
import subprocess
import sys
import tarfile
import weakref
from dataclasses import replace

import pytest
import torch
from banks import hum_bank
from conftest import FSQ, TINY_VOCODER, VOICES, seeded

from vcae.cli import main as cli
from vcae.corpora.layouts import folder as one_folder
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import PRESETS, MelConfig
from vcae.model.prosody import ProsodyEncoder, ProsodyPredictor, ProsodyPredictorConfig
from vcae.model.restorer import Restorer, RestorerConfig
from vcae.model.vocoder import Vocoder
from vcae.training.config import RestorationStageConfig, SamplerConfig, TrainConfig
from vcae.training.data import Bank, Sampler
from vcae.training.shards import (
    Shard,
    ShardError,
    Shards,
    ShardSampler,
    join,
    read_bank,
    write_bank,
    write_shards,
)
from vcae.training.stages.prosody import ProsodyPredictorStage
from vcae.training.stages.restoration import RestorationSampler, RestorationStage
from vcae.training.stages.voice import VoiceSampler
from vcae.training.trainer import Trainer

MEL = MelConfig()
SHORT = SamplerConfig(4, 0.4, 0.2, speeds=(1.0,), at_most=())


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def write_index(folder, banks):
    """Shards of these banks, and their index."""
    folder.mkdir()
    shards = []
    for number, bank in enumerate(banks):
        write_bank(folder / f"{number}.tar", bank)
        speakers = dict(zip(bank.speaker_names, bank.labelled.tolist(), strict=True))
        shards.append(vars(Shard(f"{number}.tar", len(bank.samples) / bank.sample_rate, speakers, [])))
    (folder / "index.json").write_text(json.dumps({"mel": vars(MEL), "key": "k", "shards": shards}))
    return Shards(folder, MEL)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Shards:
    """Five shards; two of the speakers are in several."""
    bank = hum_bank()
    count = len(bank.speaker_names)
    banks = [
        replace(
            bank,
            speaker_names=[f"{min(n, k)}-{k}" for k in range(count)],
            ids=[f"{n}-{k}" for k in range(count)],
        )
        for n in range(5)
    ]
    return write_index(tmp_path_factory.mktemp("shards") / "all", banks)


def test_a_bank_that_is_written_is_read(tmp_path):
    bank = hum_bank()
    write_bank(tmp_path / "a.tar", bank)
    found = read_bank(tmp_path / "a.tar", MEL, bank.speaker_names, bank.labelled.tolist())
    for name in ("samples", "f0", "phones", "starts", "speakers", "labelled", "speaker_starts"):
        assert torch.equal(getattr(found, name), getattr(bank, name)), name
    assert (found.ids, found.texts) == (bank.ids, bank.texts)
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert archive.getnames()[:4] == [f"000000.{s}" for s in ("flac", "f0.npy", "phones.npy", "json")]


def test_joined_banks_hold_the_recordings_of_each_speaker_in_a_row():
    bank = hum_bank()
    found = join([bank, bank])
    assert found.speakers.tolist() == sorted(2 * bank.speakers.tolist())
    assert len(found.samples) == 2 * len(bank.samples)
    begin, end = found.starts[:2].tolist()
    assert torch.equal(found.samples[begin:end], bank.samples[: end - begin])
    assert len(found.f0) == len(found.samples) // MEL.hop_length


def test_each_round_holds_each_shard_once_in_another_order(shards):
    rounds = [[shards.order(5 * k + at) for at in range(5)] for k in range(4)]
    assert all(sorted(each) == list(range(5)) for each in rounds)
    assert len(set(map(tuple, rounds))) > 1


def test_a_batch_depends_on_its_step_alone(shards):
    """So a run goes on exactly where it was stopped, also within a shard."""

    def batches(sampler, steps):
        for step in steps:
            sampler.seek(step)
            yield sampler.batch(torch.Generator().manual_seed(step))

    sampler = ShardSampler(shards, SHORT, window=2)
    steps = range(0, 4 * sampler.steps, max(1, sampler.steps // 2))
    whole = list(batches(sampler, steps))
    resumed = ShardSampler(shards, SHORT, window=2)
    for expected, found in zip(whole[5:], batches(resumed, steps[5:]), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(expected, found, strict=True))
    assert sampler.bank.fingerprint == resumed.bank.fingerprint
    assert sampler.speakers == len(shards.speakers)


def window(shards: Shards, position: int, size: int) -> Bank:
    return join([shards.read(shards.order(at)) for at in range(position, position + size)])


@pytest.mark.parametrize("positions", [(0,), (1,), (1, 3), (3, 2), (3, 9)])
def test_a_window_is_the_shards_in_order_however_it_was_reached(shards, positions):
    sampler = ShardSampler(shards, SHORT, window=3)
    for position in positions:
        sampler.seek(position * sampler.steps)
    expected = window(shards, positions[-1], 3)
    for name in ("samples", "f0", "phones", "starts", "speakers", "labelled", "speaker_starts"):
        assert torch.equal(getattr(sampler.bank, name), getattr(expected, name)), name
    assert sampler.bank.ids == expected.ids


def test_a_shard_is_held_once(shards, monkeypatch):
    """In the bank of all, and no longer as it was read, but for the one that is read ahead."""
    read, banks = shards.read, []

    def noted(number):
        bank = read(number)
        banks.append(weakref.ref(bank))
        return bank

    monkeypatch.setattr(shards, "read", noted)
    sampler = ShardSampler(shards, SHORT, window=3)
    for position in (0, 1, 2, 6):
        sampler.seek(position * sampler.steps)
        assert sum(bank() is not None for bank in banks) <= 1
    before = weakref.ref(sampler.bank)
    sampler.seek(7 * sampler.steps)
    assert before() is None


@pytest.mark.parametrize("kind", [RestorationSampler, VoiceSampler])
def test_a_source_passes_the_step_on_to_what_it_draws_from(shards, kind):
    source = kind(*(ShardSampler(shards, SHORT, window=2) for _ in range(2)))
    source.seek(3 * source.parts[0].steps)
    expected = kind(*(Sampler(window(shards, 3, 2), SHORT) for _ in range(2)))
    batches = [each.batch(torch.Generator().manual_seed(0)) for each in (source, expected)]
    assert all(torch.equal(x, y) for x, y in zip(*batches, strict=True))
    assert source.bank.ids == expected.bank.ids


def test_a_run_has_the_shards_of_its_last_step_in_a_source_of_sources(shards, tmp_path):
    parts = [ShardSampler(shards, SHORT, window=2) for _ in range(2)]
    for each in parts:
        each.steps = 2
    sizes = RestorerConfig(MEL, delay=3, width=8, hidden=8, dilations=(1,), pitches=24)
    teachers = ProsodyEncoder(MEL), seeded(Vocoder, TINY_VOCODER)
    config = RestorationStageConfig(shares=(0.5, 0.25, 0.25))
    stage = RestorationStage(Restorer(sizes), RestorationSampler(*parts), *teachers, config=config)
    Trainer(stage, tmp_path, TrainConfig(steps=7, validate_steps=100, decay=1.0, warm_up=1)).run()
    assert parts[0].bank.ids == parts[1].bank.ids == window(shards, 3, 2).ids


def test_speakers_without_a_recording_are_not_drawn(shards):
    sampler = ShardSampler(shards, SHORT, window=1)
    for position in range(5):
        sampler.seek(position * sampler.steps)
        bank = sampler.bank
        there = bank.speaker_starts[1:] > bank.speaker_starts[:-1]
        assert torch.equal(sampler.speaker_probabilities > 0, there) and not there.all()


def test_a_run_over_shards_continues_exactly(shards, tmp_path):
    def trained(folder, *steps):
        for limit in steps:
            torch.manual_seed(0)
            sampler = ShardSampler(shards, SHORT, window=2)
            sampler.steps = 2
            sizes = ProsodyPredictorConfig(MEL, dim=FSQ.content_dim, width=8, hidden=8)
            stages = [
                ProsodyPredictorStage(ProsodyPredictor(sizes), seeded(Autoencoder, FSQ), each)
                for each in (sampler, sampler)
            ]
            config = TrainConfig(steps=limit, validate_steps=100, decay=1.0, warm_up=1)
            Trainer(stages[0], folder, config, stages[1]).run()
        return (folder / "prosody.safetensors").read_bytes()[-2000:]

    assert trained(tmp_path / "a", 7) == trained(tmp_path / "b", 3, 7)


CAPPED = """
import resource, sys
import torch
from pathlib import Path
from vcae.model.config import MelConfig
from vcae.training.config import SamplerConfig
from vcae.training.shards import Shards, ShardSampler

def size():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmData:")[1].split()[0])

shards = Shards(Path(sys.argv[1]), MelConfig())
sampler = ShardSampler(shards, SamplerConfig(4, 0.4, 0.2, speeds=(1.0,), at_most=()), window=2)
sampler.batch(torch.Generator().manual_seed(0))
cap = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (size() + cap, size() + cap))
if sys.argv[3] == "whole":
    shards.all()
for step in range(0, 10 * sampler.steps, sampler.steps):
    sampler.seek(step)
    sampler.batch(torch.Generator().manual_seed(step))
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads and limits memory as Linux does")
def test_a_corpus_larger_than_the_memory_is_trained_on(tmp_path):
    """40 shards of 2 MB under a cap of 40 MB; to read them all at once fails."""
    rng = torch.Generator().manual_seed(0)
    minutes, grid = 1, 2 * MEL.hop_length
    length = minutes * 60 * MEL.sample_rate // grid * grid
    samples = torch.randint(-3000, 3000, (length,), generator=rng).short()
    bank = Bank(
        samples=samples,
        f0=torch.zeros(length // MEL.hop_length, dtype=torch.float16),
        phones=torch.full((length // grid,), -1, dtype=torch.int8),
        starts=torch.tensor([0, length]),
        speakers=torch.tensor([0]),
        labelled=torch.tensor([True]),
        speaker_names=["a"],
        ids=["a"],
        texts=[None],
    )
    folder = tmp_path / "large"
    shards = write_index(folder, [bank])
    index = json.loads((folder / "index.json").read_text())
    index["shards"] *= 40
    (folder / "index.json").write_text(json.dumps(index))
    cap = 40_000_000
    assert 40 * 2 * len(samples) > 1.5 * cap and len(shards.shards) == 1

    def run(how):
        return subprocess.run(
            [sys.executable, "-c", CAPPED, str(folder), str(cap), how],
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("window")
    assert done.stdout == "done\n", done.stderr
    assert run("whole").returncode != 0


def test_recordings_are_written_once_and_all_are_there(tmp_path):
    speech = one_folder(VOICES)[:3]  # without texts, whose alignment takes long
    damaged = tmp_path / "bad.flac"
    damaged.write_bytes(b"no audio")
    speech.append(replace(speech[0], path=damaged, id="bad"))
    folder = tmp_path / "shards"
    made = write_shards(folder, speech, MEL, recordings=2)
    assert len(made) > 1 and sum(len(each.skipped) for each in made) == 1
    bank = Shards(folder, MEL).all()
    assert sorted(bank.ids) == sorted(u.id for u in speech if u.id != "bad")
    first, last = sorted(folder.glob("*.tar"))[0], sorted(folder.glob("*.tar"))[-1]
    before, content = first.stat().st_mtime_ns, last.read_bytes()
    for path in (last, last.with_suffix(".json"), folder / "index.json"):
        path.unlink()
    with pytest.raises(ShardError, match="let that finish"):
        Shards(folder, MEL)
    write_shards(folder, speech, MEL, recordings=2)
    assert first.stat().st_mtime_ns == before and last.read_bytes() == content
    with pytest.raises(ShardError, match="another mel"):
        Shards(folder, PRESETS["24k"])
    last.write_bytes(content[:700])
    with pytest.raises(ShardError, match="write it again"):
        Shards(folder, MEL).all()


def test_the_command_splits_speakers_and_names_what_it_skips(tmp_path, capsys):
    for number, path in enumerate(sorted(VOICES.glob("*.flac"))[:3]):
        (tmp_path / "in" / f"s{number}").mkdir(parents=True)
        shutil.copy(path, tmp_path / "in" / f"s{number}")
    (tmp_path / "in" / "s0" / "empty.wav").write_bytes(b"")
    words = ["shard", tmp_path / "in", "--out", tmp_path / "out", "--validation", "1", "--processes", "1"]
    cli.main(list(map(str, words)))
    train, validation = (Shards(tmp_path / "out" / name, MEL) for name in ("train", "validation"))
    assert len(train.speakers) == 2 and len(validation.speakers) == 1
    assert not set(train.speakers) & set(validation.speakers)
    assert "empty.wav" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(list(map(str, [*words[:-3], "3"])))
    assert "has 3 speakers" in capsys.readouterr().err
