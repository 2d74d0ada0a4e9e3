"""The recipe of the phone codec: errors, segments, edits, and training of toy networks."""

import sys
from pathlib import Path

import pytest
import torch
from conftest import noise
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

import phones as recipe

from vcae.model.phones import PHONES, PhoneCodec, PhoneConfig

TINY_CODEC = PhoneConfig(dim=8, width=16, hidden=24, delay=2)
A, B, C = 1, 2, 3
SIL = recipe.SIL


@pytest.mark.parametrize(
    ("found", "words", "wanted"),
    [
        ([A, B], [[[A, B]]], (0, 2)),
        ([], [[[A, B]]], (2, 2)),
        ([A, C, B], [[[A, B]]], (1, 2)),
        ([A, C], [[[A, B]]], (1, 2)),
        ([A, B, C], [[[A], [B]], [[C, C], [B, C]]], (0, 3)),
        ([C], [[[A, B, C], [B, C]]], (1, 2)),
        ([A], [], (1, 0)),
    ],
)
def test_errors_of_the_best_pronunciations(found, words, wanted):
    assert recipe.errors(found, words) == wanted


phones = st.lists(st.sampled_from([A, B, C]), max_size=6)


@given(found=phones, wanted=phones)
def test_errors_are_a_distance(found, wanted):
    jiwer = pytest.importorskip("jiwer")
    counts = recipe.errors(found, [[wanted]])
    assert counts.length == len(wanted)
    assert counts.wrong == recipe.errors(wanted, [[found]]).wrong
    if wanted:
        text, other = (" ".join("-abc"[p] for p in x) for x in (wanted, found))
        assert counts.wrong / len(wanted) == pytest.approx(jiwer.wer(text, other))


def test_pronunciations_of_a_text():
    pytest.importorskip("pocketsphinx")
    names = [[[PHONES[k] for k in each] for each in word] for word in recipe.pronunciations("The cat's")]
    assert ["DH", "AH"] in names[0] and ["DH", "IY"] in names[0]
    assert names[1] == [["K", "AE", "T", "S"]]
    assert recipe.pronunciations("the xyzzyx") is None
    assert recipe.pronunciations("...") is None


def test_a_segment_begins_where_the_code_changes():
    z = torch.cat([torch.full((n, 4), float(k)) for k, n in enumerate((6, 9, 7))]) + 0.01 * noise(22, 4)
    segments = recipe.segments_of(z)
    assert len(segments) in range(3, 9)
    assert segments.min(0).values[0] < 0.4 and segments.max(0).values[0] > 1.6
    assert recipe.segments_of(noise(1, 4)).shape == (1, 4)


def test_repetitions_are_merged():
    ids = torch.tensor([[A, A, B, SIL, SIL, A]])
    one_hot = torch.nn.functional.one_hot(ids, len(PHONES)).mT.float()
    assert recipe.merged(one_hot).argmax(1).tolist() == [[A, B, SIL, A, SIL, SIL]]


def test_an_edit_replaces_whole_phones():
    torch.manual_seed(0)
    ids = torch.tensor([[SIL, SIL, A, A, A, B, B, -1, C, C]]).repeat(200, 1)
    edited = recipe.edit(ids, 0.5)
    assert (edited[:, [0, 1, 7]] == ids[:, [0, 1, 7]]).all()
    assert (edited[:, 2:5] == edited[:, 2:3]).all() and (edited[:, 8] == edited[:, 9]).all()
    assert 0.3 < (edited[:, 2] != A).float().mean() < 0.7
    assert edited.min() == -1 and edited.max() < len(PHONES)


@pytest.fixture
def codes():
    """Phones that last five frames, each with a code of its own."""
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (120,)).repeat_interleave(5)
    z = torch.nn.functional.normalize(noise(4, 8), dim=1)[labels] * 8**0.5 + 0.1 * noise(600, 8, seed=1)
    return recipe.Codes(z, torch.zeros(600, 2), labels, torch.tensor([0, 300, 600]))


def test_transitions_are_those_of_the_labels(codes):
    codec = PhoneCodec(TINY_CODEC)
    recipe.learn_transitions(codec, codes)
    torch.testing.assert_close(codec.transitions.exp().sum(1), torch.ones(len(PHONES)))
    assert (codec.transitions.argmax(1)[:4] == torch.arange(4)).all()  # phones go on


@pytest.mark.slow
def test_a_codec_learns_to_read_and_to_write(codes):
    codec = PhoneCodec(TINY_CODEC)
    config = recipe.TrainingConfig(steps=80, batch_size=4, frames=60, learning_rate=5e-3)
    recipe.learn_transitions(codec, codes)
    recipe.train_reader(codec, codes, config)
    recipe.train_writer(codec, codes, config, edited=0.1)
    read = torch.tensor(recipe.read_codes(codec, codes.z))
    assert (read == codes.phones).float().mean() > 0.9
    with torch.no_grad():
        written = codec.writer(codes.phones[None])[0, :8]
    assert (written - codes.z.T).square().mean() < 0.3  # 1 where nothing is learned


def test_unpaired_training_runs(codes):
    config = recipe.UnpairedConfig(steps=4, batch_size=2, segments=20, width=8)
    generator = recipe.train_unpaired([codes.z], [[[A, B], [C]], [[B]]] * 20, config)
    assert all(0 < k < len(PHONES) for k in recipe.read_segments(generator, codes.z))
