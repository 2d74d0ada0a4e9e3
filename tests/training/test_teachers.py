"""Teachers: readers of their weights, features, embeddings, clusters, labels and phones.

Tests of the real weights look for them in the folder that the variable VCAE_TEACHERS names:
`whisper-base/model.bin` and `campplus.safetensors`.
"""

import dataclasses
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import VOICES, vowel
from safetensors.torch import save_file
from torch import Tensor, nn

from vcae.audio import read
from vcae.errors import VcaeError
from vcae.training.config import CodebookConfig, PhoneClassifierConfig, SpeakerLabelsConfig
from vcae.training.data import Bank
from vcae.training.teachers import (
    CamPlusPlus,
    WhisperEncoder,
    convert_campplus,
    load_campplus,
    load_whisper,
)
from vcae.training.teachers.campplus import KaldiFilterBank
from vcae.training.teachers.clusters import agreement, assign, k_means
from vcae.training.teachers.ctranslate2 import ModelFileError, read_ctranslate2
from vcae.training.teachers.labels import (
    UNKNOWN,
    Codebook,
    ContentLabels,
    label_content,
    learn_codebook,
    speaker_embeddings,
)
from vcae.training.teachers.phones import fit_phones, phone_accuracy, pseudo_labels
from vcae.training.teachers.whisper import WhisperConfig

WEIGHTS = Path(os.environ.get("VCAE_TEACHERS", "teachers"))
TINY = WhisperConfig(n_mels=80, width=64, heads=1, layers=2, positions=200)


@pytest.fixture
def tiny() -> WhisperEncoder:
    torch.manual_seed(0)
    return WhisperEncoder(TINY).eval()


def bank(**options) -> Bank:
    """Two speakers with two recordings of a second each."""
    pitches, size = (110.0, 130.0, 220.0, 260.0), 16_000
    wav = torch.cat([vowel(p, size)[0, 0] for p in pitches])
    return Bank(
        samples=(32767 * wav).to(torch.int16),
        f0=torch.tensor(pitches).repeat_interleave(size // 160).half(),
        phones=torch.full((len(wav) // 320,), -1, dtype=torch.int8),
        starts=torch.arange(5) * size,
        speakers=torch.tensor([0, 0, 1, 1]),
        labelled=torch.tensor([True, True]),
        speaker_names=["test/0", "test/1"],
        ids=["0", "1", "2", "3"],
        texts=[None] * 4,
        **options,
    )


def write_ctranslate2(path: Path, arrays: dict[str, np.ndarray], aliases: dict[str, str]) -> None:
    kinds = {np.dtype(t): i for i, t in enumerate((np.float32, np.int8, np.int16, np.int32, np.float16))}

    def text(x: str) -> bytes:
        return struct.pack("<H", len(x) + 1) + x.encode() + b"\0"

    data = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, a in arrays.items():
        data += text(name) + struct.pack("<B", a.ndim) + struct.pack(f"<{a.ndim}I", *a.shape)
        data += struct.pack("<BI", kinds[a.dtype], a.nbytes) + a.tobytes()
    data += struct.pack("<I", len(aliases)) + b"".join(text(k) + text(v) for k, v in aliases.items())
    path.write_bytes(data)


def as_ctranslate2(model: WhisperEncoder) -> dict[str, np.ndarray]:
    """The weights of a model under CTranslate2's names."""
    names = {
        "attention_norm": "self_attention/layer_norm",
        "queries_keys_values": "self_attention/linear_0",
        "attention_output": "self_attention/linear_1",
        "norm": "ffn/layer_norm",
        "expand": "ffn/linear_0",
        "project": "ffn/linear_1",
    }
    arrays = {"encoder/num_heads": np.array(model.config.heads, dtype=np.int16)}
    for name, t in model.state_dict().items():
        *module, kind = name.split(".")
        if name == "positions":
            theirs = "position_encodings/encodings"
        elif module[0] == "blocks":
            kind = {"weight": "gamma", "bias": "beta"}[kind] if module[2].endswith("norm") else kind
            theirs = f"layer_{module[1]}/{names[module[2]]}/{kind}"
        elif module[0] == "norm":
            theirs = "layer_norm/" + {"weight": "gamma", "bias": "beta"}[kind]
        else:
            theirs = f"{module[0]}/{kind}"
        arrays[f"encoder/{theirs}"] = t.numpy()
    return arrays


def as_transformers(model: WhisperEncoder) -> dict[str, Tensor]:
    """The weights of a model under the names of `transformers`; its keys must have no bias."""
    state = model.state_dict()
    found = {"embed_positions.weight": state["positions"]}
    found |= {f"layer_norm.{k}": state[f"norm.{k}"] for k in ("weight", "bias")}
    found |= {f"{m}.{k}": state[f"{m}.{k}"] for m in ("conv1", "conv2") for k in ("weight", "bias")}
    names = {
        "attention_norm": "self_attn_layer_norm",
        "attention_output": "self_attn.out_proj",
        "norm": "final_layer_norm",
        "expand": "fc1",
        "project": "fc2",
    }
    for i in range(model.config.layers):
        for kind in ("weight", "bias"):
            for ours, theirs in names.items():
                found[f"layers.{i}.{theirs}.{kind}"] = state[f"blocks.{i}.{ours}.{kind}"]
            for x, part in zip("qkv", state[f"blocks.{i}.queries_keys_values.{kind}"].chunk(3), strict=True):
                if (x, kind) != ("k", "bias"):
                    found[f"layers.{i}.self_attn.{x}_proj.{kind}"] = part
    return {f"model.encoder.{n}": t.clone() for n, t in found.items()}


def test_ctranslate2_arrays_of_every_type_in_parts_and_by_alias(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {
        "a/weight": np.arange(6, dtype=np.float16).reshape(2, 3),
        "b": np.array(8, dtype=np.int16),
        "c": np.array([-1, 2], dtype=np.int8),
    }
    write_ctranslate2(tmp_path / "model.bin", arrays, {"d": "c"})
    data = (tmp_path / "model.bin").read_bytes()
    parts = [tmp_path / "model.bin.part1", tmp_path / "model.bin.part2"]
    parts[0].write_bytes(data[:40])
    parts[1].write_bytes(data[40:])
    for files in ([tmp_path / "model.bin"], parts):
        found = read_ctranslate2(*files)
        assert set(found) == {*arrays, "d"}
        for name, a in arrays.items():
            assert found[name].dtype == torch.from_numpy(a).dtype
            assert found[name].tolist() == a.tolist()
        assert found["d"].tolist() == [-1, 2]


@pytest.mark.parametrize("keep", [0, 3, 60])
def test_a_file_cut_short_is_reported_in_one_line(tmp_path: Path, keep: int) -> None:
    write_ctranslate2(tmp_path / "model.bin", {"a": np.zeros(9, dtype=np.float32)}, {})
    cut = tmp_path / "cut.bin"
    cut.write_bytes((tmp_path / "model.bin").read_bytes()[:keep])
    with pytest.raises(ModelFileError, match=r"cut\.bin: not a CTranslate2 model"):
        read_ctranslate2(cut)


def test_both_sources_give_the_same_encoder(tmp_path: Path, tiny: WhisperEncoder) -> None:
    for block in tiny.blocks:
        block.queries_keys_values.bias.data[64:128] = 0  # keys
    write_ctranslate2(tmp_path / "model.bin", as_ctranslate2(tiny), {})
    save_file(as_transformers(tiny), tmp_path / "model.safetensors")
    wav = torch.randn(2, 6_000)
    expected = tiny(wav)
    for name in ("model.bin", "model.safetensors"):
        model = load_whisper(tmp_path / name)
        assert model.config == TINY
        assert torch.allclose(model(wav), expected, atol=1e-5)


def test_features_of_every_layer_and_length(tiny: WhisperEncoder) -> None:
    wav = torch.randn(2, 320 * 10 + 1)
    layers = tiny.layers(wav)
    assert [x.shape for x in layers] == [(2, 11, 64)] * 3
    assert torch.equal(tiny(wav, layer=1), layers[0])
    assert torch.equal(tiny(wav), layers[2])
    assert tiny.of_labels(wav).shape == (2, 11, 64)
    with pytest.raises(ValueError, match="at most 30 s"):
        tiny(torch.randn(1, 320 * 201))


def test_features_of_labels_are_half_a_frame_later(tiny):
    wav = torch.randn(1, 320 * 20)
    late = torch.cat([torch.zeros(1, 160), wav], dim=1)[:, : 320 * 20]  # sample n moves to n + 160
    # The mel's maximum and the ends differ a little.
    assert torch.allclose(tiny.of_labels(late)[:, :8], tiny(wav)[:, :8], atol=0.2)


def test_a_file_without_a_whisper_is_reported_in_one_line(tmp_path):
    write_ctranslate2(tmp_path / "model.bin", {"a": np.zeros(9, dtype=np.float32)}, {})
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "text.safetensors").write_text("nothing of the kind")
    for name in ("model.bin", "model.safetensors", "text.safetensors"):
        with pytest.raises(ModelFileError, match=rf"{name}: does not hold a Whisper encoder") as caught:
            load_whisper(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_filter_banks_are_those_of_kaldi():
    from torchaudio.compliance.kaldi import fbank

    torch.manual_seed(0)
    wav = 0.1 * torch.randn(2, 24_000)
    features = KaldiFilterBank()(wav)
    for one, found in zip(wav, features, strict=True):
        expected = fbank(one[None], num_mel_bins=80, sample_frequency=16_000, dither=0.0)
        assert torch.allclose(found.T, expected - expected.mean(0), atol=1e-3)


def test_a_speaker_embedding_has_unit_norm_and_passes_a_gradient():
    torch.manual_seed(0)
    wav = (0.1 * torch.randn(2, 12_000)).requires_grad_()
    embedding = CamPlusPlus().eval()(wav)
    assert embedding.shape == (2, 192)
    assert torch.allclose(embedding.norm(dim=1), torch.ones(2), atol=1e-4)
    embedding[:, 0].sum().backward()
    assert wav.grad is not None and wav.grad.isfinite().all() and wav.grad.any()


def test_published_weights_are_converted_and_code_is_not_unpickled(tmp_path):
    torch.manual_seed(0)
    model = CamPlusPlus().eval()
    torch.save(model.state_dict(), tmp_path / "published.pt")
    convert_campplus(tmp_path / "published.pt", tmp_path / "campplus.safetensors")
    loaded = load_campplus(tmp_path / "campplus.safetensors")
    wav = 0.1 * torch.randn(1, 12_000)
    assert torch.equal(loaded(wav), model(wav)) and not any(p.requires_grad for p in loaded.parameters())

    torch.save(nn.Linear(1, 1), tmp_path / "code.pt")
    with pytest.raises(ModelFileError, match=r"code\.pt: does not hold tensors of CAM\+\+"):
        convert_campplus(tmp_path / "code.pt", tmp_path / "new.safetensors")
    with pytest.raises(ModelFileError, match=r"new\.safetensors: does not hold CAM\+\+"):
        load_campplus(tmp_path / "new.safetensors")


def test_clusters_of_separate_groups_agree_with_them():
    torch.manual_seed(0)
    label = torch.randint(4, (2_000,))
    x = 20 * torch.eye(4)[label] + torch.randn(2_000, 4)
    ids = assign(x, k_means(x, 16, steps=10))
    purity, information = agreement(ids, label)
    assert purity > 0.95 and information > 0.9
    assert agreement(ids, torch.randint(4, (2_000,)))[1] < 0.05
    with pytest.raises(ValueError, match="too few"):
        k_means(x[:3], 4)


def test_components_have_zero_mean_and_unit_variance():
    torch.manual_seed(0)
    x = torch.randn(500, 6) * torch.tensor([9.0, 5.0, 3.0, 1.0, 1.0, 1.0]) + 2
    codebook = Codebook.fit(x, CodebookConfig(clusters=5, components=3))
    components = codebook.project(x)
    assert codebook.centres.shape == (5, 6) and components.shape == (500, 3)
    torch.testing.assert_close(components.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cov(components.T), torch.eye(3), atol=1e-3, rtol=0)
    assert components[:, 0].abs().argmax() == (x[:, 0] - x[:, 0].mean()).abs().argmax()


def test_a_bank_is_labelled_kept_and_completed(tiny, tmp_path):
    data, path = bank(), tmp_path / "labels.safetensors"
    config = CodebookConfig(layer=1, clusters=8, components=3, hours=1e-3)
    codebook = learn_codebook(tiny, data, config)
    labels = ContentLabels.empty(data, codebook)
    assert not labels.known.any()
    label_content(tiny, data, labels, path)
    found = ContentLabels.load(path, data)
    assert found.known.all() and found.codebook.layer == 1
    assert int(found.units.int().max()) < 8 and found.features.shape == (200, 3)
    assert torch.equal(found.features, labels.features)
    # What is known stays.
    units = found.units.int()
    units[50:100] = UNKNOWN
    units[:50] = 3
    found.units = units.to(torch.uint16)
    label_content(tiny, data, found)
    assert (found.units[:50].int() == 3).all()
    assert torch.equal(found.units[50:].int(), labels.units[50:].int())
    other = dataclasses.replace(data, ids=["a", "b", "c", "d"])
    with pytest.raises(VcaeError, match=r"labels\.safetensors: holds the labels of another bank"):
        ContentLabels.load(path, other)


def test_a_bank_of_another_rate_is_refused(tiny):
    data = bank(sample_rate=24_000, hop_length=240)
    for label in (
        lambda: learn_codebook(tiny, data, CodebookConfig()),
        lambda: speaker_embeddings(CamPlusPlus().eval(), data),
    ):
        with pytest.raises(VcaeError, match="preset 16k"):
            label()


def test_each_speaker_and_speed_has_an_embedding():
    class MeanSpectrum(nn.Module):
        dim = 12

        def forward(self, wav: Tensor) -> Tensor:
            return nn.functional.adaptive_avg_pool1d(torch.fft.rfft(wav).abs(), 12)

    config = SpeakerLabelsConfig(crops=2, seconds=0.5)
    found = speaker_embeddings(MeanSpectrum(), bank(), (1.0, 1.2), config)
    assert found.shape == (2, 2, 12)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2, 2))
    assert not torch.equal(found[:, 0], found[:, 1])


def test_phones_of_frames_with_equal_features_are_filled_in():
    torch.manual_seed(0)
    codebook = Codebook(torch.zeros(6, 5), torch.zeros(5), torch.eye(5)[:, :3], layer=4)
    units = torch.zeros(300, dtype=torch.int32)
    units[200:] = UNKNOWN
    phone = torch.randint(4, (300,))
    features = nn.functional.one_hot(phone, 4)[:, :3].half()
    labels = ContentLabels(units.to(torch.uint16), features, codebook, "")
    known = phone.where(torch.arange(300) < 150, -1).to(torch.int8)
    config = PhoneClassifierConfig(steps=60, batch_size=64)
    classifier = fit_phones(labels, known, config)
    filled = pseudo_labels(classifier, labels, known)
    assert torch.equal(filled[:150], known[:150])
    assert (filled[150:198] == phone[150:198]).float().mean() > 0.9
    assert (filled[200:] == -1).all()  # without a feature
    assert phone_accuracy(classifier, labels, known)[0] > 0.9
    at = classifier.at(features, torch.arange(300))
    torch.testing.assert_close(classifier(features.float()[None])[0].T, at)
    with pytest.raises(ValueError, match="no frame"):
        fit_phones(labels, torch.full_like(known, -1), config)


@pytest.mark.slow
@pytest.mark.skipif(not (WEIGHTS / "whisper-base").is_dir(), reason="no Whisper base in $VCAE_TEACHERS")
def test_whisper_base_agrees_with_ctranslate2():
    ctranslate2 = pytest.importorskip("ctranslate2")
    folder = WEIGHTS / "whisper-base"
    reference = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32")
    model = load_whisper(folder / "model.bin")
    mel = model.log_mel(0.1 * torch.randn(1, 480_000))
    expected = reference.encode(ctranslate2.StorageView.from_array(mel.contiguous().numpy()))
    assert np.abs(np.array(expected) - model.of_mel(mel).numpy()).max() < 1e-2


@pytest.mark.slow
@pytest.mark.skipif(not (WEIGHTS / "campplus.safetensors").is_file(), reason="no CAM++ in $VCAE_TEACHERS")
def test_campplus_distinguishes_the_sample_voices():
    model = load_campplus(WEIGHTS / "campplus.safetensors")
    waves = [read(path, 16_000).samples for path in sorted(VOICES.glob("*.flac"))]
    halves = [
        torch.cat([model(torch.from_numpy(h.copy())[None]) for h in np.array_split(w, 2)]) for w in waves
    ]
    first, second = torch.stack(halves, dim=1)  # (voices, 192) each
    assert ((first @ second.T).argmax(1) == torch.arange(len(waves))).all()
