"""The phone recogniser that labels the bank."""

import pytest
import torch
from conftest import noise

from vcae.data import Bank
from vcae.mel import MelConfig
from vcae.teacher import PHONES, Teacher, _fill, align, phones_of, spoken

MEL = MelConfig()


def spelled(text: str) -> str | None:
    found = phones_of(text)
    return found and " ".join(PHONES[i] for i in found)


def bank_of(*recordings: tuple[str | None, float]) -> Bank:
    """Noise with a text, so many seconds each, of one speaker."""
    frames = [round(50 * seconds) for _, seconds in recordings]  # code frames
    starts = torch.tensor([0, *frames]).cumsum(0) * 320
    samples = (3000 * noise(int(starts[-1]))).to(torch.int16)
    return Bank(
        samples=samples,
        f0=torch.zeros(len(samples) // 160).half(),
        phones=torch.full((len(samples) // 320,), -1, dtype=torch.int8),
        starts=starts,
        speakers=torch.zeros(len(recordings), dtype=torch.long),
        labelled=torch.tensor([True]),
        speaker_names=["test/0"],
        ids=[str(k) for k in range(len(recordings))],
        texts=[text for text, _ in recordings],
    )


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    return Teacher(MEL, width=8, blocks=2).eval()


def test_there_are_forty_phones():
    assert len(PHONES) == len(set(PHONES)) == 40
    assert PHONES[0] == "<blank>"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Hello, world!", "HH AH L OW W ER L D"),
        ("cat 2", "K AE T T UW"),
        ("42", "F AO R T UW"),
        ("it's", "IH T S"),
        ("it\u2019s", "IH T S"),
        ("'cat'", "K AE T"),
        ("cat-cat", "K AE T K AE T"),
        ("the xyzzyx", None),
        ("", None),
        ("...", None),
    ],
)
def test_phones_of_a_sentence(text, wanted):
    assert spelled(text) == wanted


def test_a_word_with_letters_that_are_not_english_is_unknown():
    """Half of it would be read as another word."""
    assert phones_of("se\u00f1or") is None


def test_a_quotation_mark_of_its_own_is_no_word():
    assert spelled("' cat '") == "K AE T"


def test_what_the_teacher_learns_from():
    bank = bank_of(
        ("hello there", 3.0),
        (None, 1.0),
        ("a xyzzyx", 1.0),
        ("cat", 1.0),
        ("cat", 13.0),  # longer than asked for
        ("hello there hello there", 0.3),  # more phones than would fit
    )
    assert [i for i, _ in spoken(bank)] == [3, 0]
    assert [i for i, _ in spoken(bank, longest=20)] == [3, 0, 4]
    assert spoken(bank)[0][1] == phones_of("cat")


@pytest.mark.parametrize("frames", [2, 50, 128])
def test_the_teacher_gives_probabilities_at_half_the_rate(teacher, frames):
    found = teacher(noise(2, 80, frames))
    assert found.shape == (2, 40, frames // 2)
    assert torch.allclose(found.exp().sum(1), torch.ones(2, frames // 2), atol=1e-5)


def test_alignment_labels_what_has_a_text(teacher):
    bank = bank_of(("hello there", 1.0), (None, 0.5), ("cat", 0.7))
    share = align(bank, teacher, worst=-100.0)
    assert bank.phones.shape == (110,) and bank.phones.dtype == torch.int8
    assert (bank.phones[50:75] == -1).all()
    for labels, text in ((bank.phones[:50], "hello there"), (bank.phones[75:], "cat")):
        assert labels.min() >= 0 and labels.max() < 40
        order = [int(p) for p in labels.unique_consecutive() if p]
        assert order == phones_of(text)
    assert share == pytest.approx(85 / 110)


def test_a_text_that_cannot_be_right_leaves_no_label(teacher):
    bank = bank_of(("hello there", 1.0))
    assert align(bank, teacher) == 0  # an untrained teacher believes in nothing
    assert (bank.phones == -1).all()


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ([0, 0, 5, 0, 0, 7, 0], [0, 0, 5, 5, 5, 7, 7]),
        ([5, 0, 0, 0, 0, 6], [5, 5, 5, 0, 0, 6]),
        ([5, 5, 0], [5, 5, 5]),
        ([0, 0, 0], [0, 0, 0]),
    ],
)
def test_blanks_belong_to_the_phone_before_for_a_while(path, wanted):
    assert _fill(torch.tensor(path), longest=2).tolist() == wanted


def test_a_blank_lasts_six_frames():
    assert _fill(torch.tensor([3] + [0] * 9)).tolist() == [3] * 7 + [0] * 3
