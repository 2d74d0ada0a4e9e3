"""Reader and writer of phones, and the search for the most likely sequence."""

import itertools

import pytest
import torch
from conftest import cuts, noise, streamed
from hypothesis import given
from hypothesis import strategies as st

from vcae.model.phones import PHONES, PhoneCodec, PhoneConfig, Viterbi

TINY_CODEC = PhoneConfig(dim=8, width=16, hidden=24)


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    return PhoneCodec(TINY_CODEC).eval()


def probabilities(*shape, seed):
    """Log-probabilities, the last dimension's sum to 1."""
    return noise(*shape, seed=seed).log_softmax(-1)


@pytest.mark.parametrize("frames", [1, 5, 60])
def test_shapes(codec, frames):
    assert codec.reader(noise(2, 8, frames)).shape == (2, len(PHONES), frames)
    phones = torch.randint(-1, len(PHONES), (2, frames), generator=torch.Generator().manual_seed(0))
    assert codec.writer(phones).shape == (2, 8 + 2, frames)


@given(borders=cuts(60))
def test_the_reader_reads_a_stream_as_it_reads_a_whole(codec, borders):
    with torch.no_grad():
        z = noise(1, 8, 60)
        torch.testing.assert_close(streamed(codec.reader, z, borders), codec.reader(z), atol=1e-5, rtol=1e-4)


def test_the_writer_changes_only_what_is_near_to_a_change(codec):
    phones = torch.full((1, 100), 5)
    other = phones.clone()
    other[:, 50:53] = 7
    with torch.no_grad():
        moved = (codec.writer(other) - codec.writer(phones)).abs().amax(1)[0] > 1e-6
    assert moved[50:53].all()
    assert not moved[:35].any() and not moved[68:].any()


@given(states=st.integers(2, 4), frames=st.integers(1, 6), seed=st.integers(0, 99), weight=st.floats(0, 3))
def test_no_sequence_is_more_likely(states, frames, seed, weight):
    start, transitions = (
        probabilities(states, seed=seed),
        weight * probabilities(states, states, seed=seed + 1),
    )
    scores = probabilities(frames, states, seed=seed + 2).T

    def score(path):
        steps = sum(transitions[a, b] for a, b in itertools.pairwise(path))
        return float(start[path[0]] + steps + sum(scores[s, t] for t, s in enumerate(path)))

    search = Viterbi(start, transitions)
    found = search.feed(scores) + search.flush()
    assert len(found) == frames
    best = max(map(score, itertools.product(range(states), repeat=frames)))
    assert score(found) == pytest.approx(best, abs=1e-4)


@given(borders=cuts(200), seed=st.integers(0, 9))
def test_a_sequence_is_found_block_by_block(borders, seed):
    start, transitions = probabilities(5, seed=seed), probabilities(5, 5, seed=seed + 1)
    scores = probabilities(200, 5, seed=seed + 2).T
    whole, blocks = Viterbi(start, transitions), Viterbi(start, transitions)
    found = [state for a, b in itertools.pairwise(borders) for state in blocks.feed(scores[:, a:b])]
    assert found + blocks.flush() == whole.feed(scores) + whole.flush()


def test_states_are_given_out_while_the_signal_goes_on():
    search = Viterbi(probabilities(5, seed=0), probabilities(5, 5, seed=1))
    given_out = sum(len(search.feed(probabilities(50, 5, seed=seed).T)) for seed in range(10))
    assert given_out > 400


def test_a_signal_without_frames_has_no_states():
    search = Viterbi(probabilities(5, seed=0), probabilities(5, 5, seed=1))
    assert search.feed(torch.zeros(5, 0)) + search.flush() == []
