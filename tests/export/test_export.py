"""ONNX graphs: equality with the networks, and the example script, which converts without torch."""

import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, TINY_VOCODER, VOICES, noise, seeded
from torch import Tensor, nn

import vcae
from vcae import Audio, audio, files
from vcae.cli import main as cli
from vcae.cli import options as cli_options
from vcae.inference.converter import Converter
from vcae.model.autoencoder import Autoencoder
from vcae.model.config import MelConfig
from vcae.model.layers import Stack
from vcae.model.speaker import SpeakerCode
from vcae.model.vocoder import Vocoder

pytestmark = pytest.mark.slow

REASON = "exporting needs the extra `export`"
onnxruntime = pytest.importorskip("onnxruntime", reason=REASON)
export = pytest.importorskip("vcae.export.onnx", reason=REASON)

RATE = 16_000
MEL = MelConfig()
CAUSAL = ["content", "prosody", "decoder", "vocoder"]
WHOLE = ["log_mel", "speaker", *CAUSAL]
CLIP, OTHER = VOICES / "vcc2016-SF1-200001.flac", VOICES / "librispeech-78-368-0031.flac"


@pytest.fixture(scope="module")
def converter() -> Converter:
    """With one block per stack, since tracing takes long, and with all frames voiced and a varying F0."""
    autoencoder, vocoder = seeded(Autoencoder, TINY), seeded(Vocoder, TINY_VOCODER)
    for module in (*autoencoder.modules(), *vocoder.modules()):
        if isinstance(module, Stack):
            del module.blocks[:-1]
    with torch.no_grad():
        autoencoder.prosody.output.weight.mul_(30)
        autoencoder.prosody.output.bias[-1] = 100
        # Otherwise the highest harmonics, which are most sensitive to rounding errors of F0, would be the
        # loudest.
        vocoder.filters.bias[: len(vocoder.filters.bias) // 4].sub_(torch.linspace(0, 8, 321))
        autoencoder.content.over_time.mean.normal_()
        autoencoder.content.over_time.variance.uniform_(0.5, 2)
    return Converter(autoencoder, vocoder)


@pytest.fixture(scope="module")
def exported(converter, tmp_path_factory) -> Path:
    """The output of `vcae export` to an existing empty folder."""
    folder = tmp_path_factory.mktemp("graphs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_options, "load", lambda path, device: converter)
        patch.setattr(sys, "argv", ["vcae", "export", "--onnx", str(folder)])
        cli.main()
    return folder


@pytest.fixture(scope="module")
def session(exported):
    """name -> loaded graph."""
    return lambda name: onnxruntime.InferenceSession(exported / f"{name}.onnx")


@pytest.fixture(scope="module")
def initial_cache(exported):
    """name -> initial cache of a streaming graph."""
    return lambda name: dict(np.load(exported / f"{name}_stream.npz"))


def example_inputs(frames: int) -> dict[str, Tensor]:
    """Random values for all inputs of all graphs."""
    prosody = torch.stack(
        [5 + 0.3 * noise(1, frames), noise(1, frames, seed=1).sigmoid(), noise(1, frames)], 1
    )
    return {
        "windows": 0.1 * noise(1, frames, MEL.win_length),
        "mel": MEL.unstandardise(noise(1, MEL.n_mels, frames)),
        "z": noise(1, TINY.content_dim, frames // 2),
        "prosody": prosody,
        "phase": noise(1, frames, seed=2).sigmoid(),
        "embedding": nn.functional.normalize(noise(1, TINY.speaker_dim)),
        "tokens": noise(1, TINY.token_dim, TINY.tokens),
    }


@torch.no_grad()
def by_torch(converter: Converter, name: str, x: dict[str, Tensor]) -> list[np.ndarray]:
    """Outputs of the networks."""
    auto = converter.autoencoder
    speaker = SpeakerCode(x["embedding"], x["tokens"])
    out = {
        "log_mel": lambda: converter.log_mel.from_windows(x["windows"]),
        "content": lambda: auto.bottleneck(auto.content(x["mel"])).z,
        "prosody": lambda: auto.prosody(x["mel"]),
        "speaker": lambda: auto.speaker.encode(x["mel"]),
        "decoder": lambda: auto.decode(x["z"], x["prosody"], speaker),
        "vocoder": lambda: converter.vocoder.windows(x["mel"], x["prosody"], x["phase"]),
    }[name]()
    return [y.numpy() for y in ([out] if isinstance(out, Tensor) else out)]


def feeds(graph, x: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {i.name: x[i.name].numpy() for i in graph.get_inputs() if i.name in x}


@pytest.mark.parametrize("frames", [2, 40, 1_030])
@pytest.mark.parametrize("name", WHOLE)
def test_graphs_equal_the_networks(converter, session, name, frames):
    graph, x = session(name), example_inputs(frames)
    outputs = graph.run(None, feeds(graph, x))
    for output, expected in zip(outputs, by_torch(converter, name, x), strict=True):
        np.testing.assert_allclose(output, expected, atol=3e-4)


@pytest.mark.parametrize("name", ["log_mel", "speaker"])
def test_a_reference_may_be_of_an_odd_number_of_frames(converter, session, name):
    graph, x = session(name), example_inputs(333)
    for output, expected in zip(graph.run(None, feeds(graph, x)), by_torch(converter, name, x), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-4)


@pytest.mark.parametrize("name", CAUSAL)
def test_two_frames_at_a_time_equal_the_whole(converter, session, initial_cache, name):
    graph, cache = session(f"{name}_stream"), initial_cache(name)
    sizes = {i.name: i.shape for i in graph.get_inputs()}
    frames, parts = 300, []
    x = example_inputs(frames)
    for step in range(frames // 2):
        block = {}
        for key, whole in feeds(graph, x).items():
            block[key] = whole
            for axis, size in enumerate(sizes[key]):
                if whole.shape[axis] != size:
                    block[key] = whole.take(range(step * size, (step + 1) * size), axis)
        out, *rest = graph.run(None, block | cache)
        cache = dict(zip(cache, rest, strict=True))
        parts.append(out)
    (expected,) = by_torch(converter, name, x)
    np.testing.assert_allclose(np.concatenate(parts, axis=2), expected, atol=3e-4)


def test_the_folder_holds_graphs_initial_caches_and_the_example(exported):
    graphs = [f"{name}.onnx" for name in (*WHOLE, *(f"{name}_stream" for name in CAUSAL))]
    caches = [f"{name}_stream.npz" for name in CAUSAL]
    assert sorted(p.name for p in exported.iterdir()) == sorted(
        ["manifest.json", "convert.py", *graphs, *caches]
    )
    assert not list(exported.parent.glob(".*.part"))


@pytest.mark.parametrize("name", CAUSAL)
def test_shapes_and_names_of_a_streaming_graph_are_fixed(session, initial_cache, name):
    graph, cache = session(f"{name}_stream"), initial_cache(name)
    inputs = {i.name: i.shape for i in graph.get_inputs()}
    outputs = {o.name: o.shape for o in graph.get_outputs()}
    assert list(inputs)[-len(cache) :] == list(cache)
    assert list(outputs)[-len(cache) :] == [key.replace("cache", "next", 1) for key in cache]
    for key, first in cache.items():
        assert inputs[key] == outputs[key.replace("cache", "next", 1)] == list(first.shape)
    assert all(isinstance(n, int) for shape in (inputs | outputs).values() for n in shape)


def test_the_manifest(converter, exported):
    about = json.loads((exported / "manifest.json").read_text())
    assert about == {
        "made_by": converter.made_by,
        "sample_rate": RATE,
        "win_length": 640,
        "hop_length": 160,
        "delay": converter.alignment.delay,
        "prosody_delay": converter.autoencoder.config.delay,
        "level": audio.LEVEL,
        "guidance_scale": TINY.guidance_scale,
    }


def test_graphs_hold_no_paths_of_this_machine(exported):
    for path in exported.glob("*.onnx"):
        assert b".py" not in path.read_bytes()


class Half(nn.Module):
    """A content encoder that is traced quickly."""

    stride = 2

    def forward(self, mel, cache=None):
        return MEL.standardise(mel)[:, : TINY.content_dim, ::2]


def test_codes_of_vector_quantisation_are_exported(tmp_path):
    auto = seeded(Autoencoder, replace(TINY, bottleneck={"kind": "vq", "size": 32}))
    auto.content = Half()
    converter = Converter(auto, seeded(Vocoder, TINY_VOCODER))
    network = export.networks(converter)["content"]
    with torch.no_grad():
        export.write_graph(tmp_path / "vq.onnx", network, network.zeros(export.shapes(TINY, 100)))
    x = example_inputs(200)
    (z,) = onnxruntime.InferenceSession(tmp_path / "vq.onnx").run(None, {"mel": x["mel"].numpy()})
    np.testing.assert_allclose(z, by_torch(converter, "content", x)[0], atol=1e-5)


# The example


WITHOUT = """
import runpy, sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "vcae", "onnx", "scipy", "soundfile", "librosa"):
            raise ImportError(name)

sys.meta_path.insert(0, Without())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """WAV files at 16 kHz: a sentence, another with an offset, and 23 seconds with a long pause."""
    folder = tmp_path_factory.mktemp("clips")
    samples, other = audio.read(CLIP, RATE).samples, audio.read(OTHER, RATE).samples
    Audio(samples, RATE).write(folder / "mono.wav")
    Audio(0.5 * other + np.float32(0.1), RATE).write(folder / "other.wav")
    pause = np.zeros(17 * RATE, np.float32)
    Audio(np.concatenate([other, pause, other])[: 23 * RATE], RATE).write(folder / "long.wav")
    return folder


def by_example(folder: Path, *words: object) -> None:
    """Run the example in a new interpreter without torch and vcae."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT, folder / "convert.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def check_example(folder, converter, source, reference, out, *options):
    by_example(folder, source, reference, out, *options)
    output, expected = audio.read(out).samples, converter.convert(source, reference).samples
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(output, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("source", "reference", "options"),
    [("mono", "long", []), ("other", "mono", ["--stream"])],
    ids=["whole", "stream"],
)
def test_the_example_equals_vcae(converter, exported, clips, tmp_path, source, reference, options):
    paths = [clips / f"{source}.wav", clips / f"{reference}.wav"]
    check_example(exported, converter, *paths, tmp_path / "out.wav", *options)


@pytest.mark.skipif(
    not os.environ.get("VCAE_EXPORT_TESTS"),
    reason="it needs minutes: VCAE_EXPORT_TESTS=1 python -m pytest -n 0 tests/export -k bundled",
)
def test_the_example_with_bundled_weights_equals_vcae(clips, tmp_path):
    """Twelve seconds, since errors of F0 accumulate in the phase."""
    converter, folder, source = vcae.load(), tmp_path / "graphs", tmp_path / "source.wav"
    export.export_onnx(converter, folder)
    samples = [audio.read(path, RATE).samples for path in sorted(VOICES.glob("*.flac"))]
    Audio(np.concatenate(samples)[: 12 * RATE], RATE).write(source)
    for options in ([], ["--stream"]):
        check_example(folder, converter, source, clips / "mono.wav", tmp_path / "out.wav", *options)


@pytest.fixture
def convert(exported, monkeypatch, capsys):
    """Run the example in this process: exit status and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["convert.py", *map(str, words)])
        code = 0
        try:
            runpy.run_path(str(exported / "convert.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr().err

    return run


def bad_recording(kind, path):
    if kind == "rate":
        Audio(0.1 * noise(8_000).numpy(), 8_000).write(path)
    elif kind == "silent":
        Audio(np.zeros(RATE, np.float32), RATE).write(path)
    elif kind == "short":
        Audio(0.1 * noise(320).numpy(), RATE).write(path)
    elif kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.touch()


@pytest.mark.parametrize("kind", ["rate", "silent", "short", "text", "empty", "missing"])
def test_the_example_refuses_bad_references(convert, clips, tmp_path, kind):
    bad, out = tmp_path / f"{kind}.wav", tmp_path / "out.wav"
    bad_recording(kind, bad)
    code, stderr = convert(clips / "mono.wav", bad, out)
    assert code == 2
    assert len(stderr.splitlines()) == 1
    assert stderr.startswith("convert.py: ")
    assert not out.exists()
    if kind == "rate":
        assert "8000" in stderr
        assert "16000" in stderr


def test_the_example_reads_a_truncated_file(convert, clips, tmp_path):
    whole = (clips / "other.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2 + 1])
    code, stderr = convert(tmp_path / "cut.wav", clips / "mono.wav", tmp_path / "out.wav")
    assert (code, stderr) == (0, "")
    assert len(audio.read(tmp_path / "out.wav").samples) == (len(whole) // 2 + 1 - 44) // 2


# Failures


@pytest.fixture
def vcae_export(converter, tmp_path, monkeypatch, capsys):
    """Run `vcae export` in an empty folder: exit status and lines of stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words, load=lambda path, device: converter):
        monkeypatch.setattr(cli_options, "load", load)
        monkeypatch.setattr(sys, "argv", ["vcae", "export", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        stderr = capsys.readouterr().err.splitlines()
        assert all(line.startswith("vcae: ") for line in stderr)
        return code, stderr

    return run


def listing(folder=Path()):
    return sorted(str(p) for p in folder.rglob("*"))


@pytest.mark.parametrize("name", ["full", "file", "file/graphs", "missing/graphs", "."])
def test_only_a_new_or_an_empty_folder_is_written(vcae_export, name):
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    Path("file").write_text("mine")
    before = listing()
    code, stderr = vcae_export("--onnx", name)
    assert code == 2
    assert len(stderr) == 1
    assert stderr[0].startswith(f"vcae: {name}: ")
    assert listing() == before


@pytest.mark.parametrize("name", ["new", "empty", "."])
def test_files_are_moved_to_the_folder(tmp_path, monkeypatch, name):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty" if name == "." else tmp_path)
    with files.new_folder(Path(name)) as folder:
        (folder / "a.txt").write_text("a")
        assert not list(Path(name).glob("*.txt"))
    assert [p.name for p in Path(name).iterdir()] == ["a.txt"]


def test_missing_weights_are_reported(vcae_export):
    code, stderr = vcae_export("--onnx", "graphs", "--model", "nowhere", load=vcae.load)
    assert code == 2
    assert len(stderr) == 1
    assert "nowhere" in stderr[0]
    assert listing() == []


def test_a_missing_extra_is_reported_in_one_line(vcae_export, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("onnxscript.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.delitem(sys.modules, "vcae.export.onnx")
    code, stderr = vcae_export("--onnx", "graphs")
    assert code == 2
    assert len(stderr) == 1
    assert "onnxscript" in stderr[0]
    assert "vcae[export]" in stderr[0]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_failure_leaves_no_files(vcae_export, monkeypatch, error):
    def fail(path, *_):
        path.touch()
        raise error

    monkeypatch.setattr(export, "write_graph", fail)
    code, stderr = vcae_export("--onnx", "graphs")
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert len(stderr) == (0 if isinstance(error, KeyboardInterrupt) else 1)
    assert listing() == []
