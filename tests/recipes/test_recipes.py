"""The recipes as a user runs them, and the README's own commands."""

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vcae
from vcae.audio import read
from vcae.errors import VcaeError
from vcae.evaluation.metrics.base import Score
from vcae.evaluation.trials import Trial
from vcae.files import load_tensors
from vcae.training.config import TrainConfig

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "recipes"))


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # tests run beside one another
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=one_thread, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A folder in which `recipes/bundled.py --tiny` has trained all stages."""
    out = tmp_path_factory.mktemp("toy")
    done = run(sys.executable, "recipes/bundled.py", "--tiny", "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_the_toy_recipe_makes_weights_that_convert(toy):
    for stage in ("recogniser", "autoencoder", "vocoder"):
        assert (toy / f"{stage}.ckpt").is_file()
    out = vcae.load(toy).reconstruct(ROOT / "demo/voices/vcc2016-SF1-200001.flac")
    assert out.duration > 3


@pytest.mark.slow
def test_what_is_done_is_not_done_again(toy):
    before = {p: p.stat().st_mtime_ns for p in toy.glob("*.bank")}
    done = run(sys.executable, "recipes/bundled.py", "--tiny", "--out", toy, "--stages", "vocoder")
    assert done.returncode == 0, done.stderr
    assert "going on from step 12" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in toy.glob("*.bank")} == before


@pytest.mark.slow
def test_training_begins_with_the_weights_that_it_is_given(toy, tmp_path):
    import bundled

    for bank in toy.glob("*.bank"):
        shutil.copy(bank, tmp_path)
    none = TrainConfig(steps=0)
    stages = ("autoencoder", "vocoder")
    shutil.copy(toy / "recogniser.safetensors", tmp_path)
    bundled.main(
        bundled.Recipe(
            start=toy, out=tmp_path, stages=stages, autoencoder_training=none, vocoder_training=none
        )
    )
    for name in ("autoencoder", "vocoder"):
        given, written = (load_tensors(folder / f"{name}.safetensors")[0] for folder in (toy, tmp_path))
        assert given.keys() == written.keys()
        assert all(torch.equal(given[key], written[key]) for key in given)


def test_weights_to_begin_with_that_are_not_there_are_told_in_one_line(tmp_path):
    done = run(sys.executable, "recipes/bundled.py", "--tiny", "--out", tmp_path / "out", "--start", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{tmp_path / 'autoencoder.safetensors'}: ")
    assert done.stderr.count("\n") == 1


def test_an_autoencoder_without_a_teacher_is_told_in_one_line(tmp_path):
    done = run(sys.executable, "recipes/bundled.py", "--tiny", "--out", tmp_path, "--stages", "autoencoder")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{tmp_path / 'recogniser.safetensors'}: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.bank"))  # before anything is read


@pytest.mark.slow
def test_the_curves_are_drawn(toy, tmp_path):
    done = run(sys.executable, "recipes/curves.py", toy, "--out", tmp_path / "curves.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("recipe", ["evaluate_bundled", "evaluate_conditions"])
def test_an_evaluation_says_which_corpus_is_missing(recipe, tmp_path):
    done = run(sys.executable, f"recipes/{recipe}.py", "--corpora", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == f"{tmp_path / 'librispeech'}: no such folder\n"
    assert not (tmp_path / "out").exists()


def test_development_sentences_are_those_that_the_judge_hears_as_they_are_written(monkeypatch, tmp_path):
    import evaluate_bundled

    class Deaf:
        """Hears the same in everything."""

        name, version = "deaf", "1"

        def extract(self, audio):
            return "hello"

        def compare(self, features, text):
            return {"WER": Score(float(features != text), 1)}

    clip = ROOT / "demo/voices/vcc2016-SF1-200001.flac"
    texts = ["hello", "good bye", None, "hello"]
    made = [Trial(str(k), clip, "a", "b", (clip,), text=text) for k, text in enumerate(texts)]
    monkeypatch.setattr(evaluate_bundled, "speakers_of", lambda name, options: [])
    monkeypatch.setattr(evaluate_bundled, "make_trials", lambda *_, **__: made)
    monkeypatch.setattr(evaluate_bundled, "Intelligibility", Deaf)

    def drawn(count):
        options = evaluate_bundled.Options(corpora=tmp_path, cache=tmp_path / "features", trials=count)
        return [trial.id for trial in evaluate_bundled.trials_of("development", options)]

    assert drawn(3) == ["0", "2", "3"]
    assert drawn(2) == drawn(2)
    with pytest.raises(VcaeError, match=r"only 3 development trials can be made, not 4"):
        drawn(4)


def test_a_reference_gets_noise_of_the_level_asked_for():
    import evaluate_conditions

    clean = read(ROOT / "demo/voices/vcc2016-SF1-200001.flac", 16_000)
    noise = evaluate_conditions.noisy(clean, 10.0).samples - clean.samples
    assert abs(10 * math.log10((clean.samples**2).mean() / (noise**2).mean()) - 10) < 0.1


@pytest.mark.parametrize(
    ("how", "kept", "lost"), [("across_a_room", (0, 8000), None), ("by_telephone", (400, 3200), (0, 200))]
)
def test_a_source_is_recorded_badly_but_whole(how, kept, lost):
    import evaluate_conditions

    clean = read(ROOT / "demo/voices/vcc2016-SF1-200001.flac", 16_000)
    bad = getattr(evaluate_conditions, how)(clean)
    assert bad.samples.shape == clean.samples.shape and bad.samples.dtype == np.float32

    def level(audio, band):
        power = np.abs(np.fft.rfft(audio.samples)) ** 2
        hertz = np.arange(len(power)) * 16_000 / len(clean.samples)
        return 10 * math.log10(power[(hertz >= band[0]) & (hertz < band[1])].sum())

    gained = 3 if how == "across_a_room" else 0  # dB: as much comes from the walls as straight, more or less
    assert level(bad, kept) == pytest.approx(level(clean, kept) + gained, abs=2.5)
    assert lost is None or level(bad, lost) < level(clean, lost) - 20


def test_less_reference_is_a_part_of_it():
    import evaluate_conditions

    given: list[float] = []

    class Listener:
        sample_rate = 16_000

        def voice(self, audios):
            given.append(sum(audio.duration for audio in audios))

        def convert(self, source, voice): ...

    recordings = tuple(sorted((ROOT / "demo/voices").glob("vcc2016-*.flac"))[:3])
    trial = Trial("t", recordings[0], "a", "b", recordings)
    for system in evaluate_conditions.references(Listener()).values():
        system(trial)
    assert given[:2] == [1.5, 3.0]
    assert given[1] < given[2] < given[3] == pytest.approx(given[4])


def blocks() -> list[str]:
    """Every command line in the README, continued and commented lines made plain."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]


@pytest.mark.slow
def test_the_first_command_converts(tmp_path):
    """What follows the installation, word by word; the output goes elsewhere."""
    (convert,) = [part.strip() for part in blocks()[0].split("&&") if "vcae convert" in part]
    words = [tmp_path / w if w == "converted.wav" else w for w in shlex.split(convert)]
    done = run(sys.executable, "-m", *words)
    assert done.returncode == 0, done.stderr
    source = read(ROOT / words[2])
    assert len(read(tmp_path / "converted.wav").samples) == len(source.samples)


def test_ci_runs_the_second_command_of_the_readme():
    test = next(line for line in blocks() if "pytest" in line)
    assert test == blocks()[1]
    assert "python -m pytest' README.md" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_every_command_in_the_readme_exists():
    names = {shlex.split(line)[1] for line in blocks() if line.startswith("vcae ")}
    of_users = {"convert", "voice", "mix", "embed", "reconstruct", "stream"}
    assert names == of_users | {"trials", "evaluate", "probe", "export"}
    for path in re.findall(r"recipes/\w+\.py", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert (ROOT / path).is_file()


def test_importing_the_package_costs_little_more_than_torch():
    """How much is timed by hand; here, that nothing heavy comes along."""
    code = (
        "import torch, sys; before = set(sys.modules); import vcae; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "print(*sorted(new & {'librosa', 'gradio', 'scipy', 'matplotlib', 'av', 'lightning_fabric', "
        "'torchaudio', 'vector_quantize_pytorch', 'resemblyzer', 'pyworld', 'tyro'}))"
    )
    assert run(sys.executable, "-c", code).stdout.strip() == ""


def test_weights_fit_their_budget():
    sizes = [p.stat().st_size for p in (ROOT / "vcae/weights").glob("*.safetensors")]
    assert len(sizes) == 2
    assert max(sizes) < 15 * 2**20 and sum(sizes) < 32 * 2**20
    converter = vcae.load()
    for model in (converter.autoencoder, converter.vocoder):
        assert all(torch.isfinite(p).all() for p in model.parameters())
