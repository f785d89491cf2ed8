"""The nano world is a pure function of seeds, and its prompts tell nothing about the voice."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.benchmark.prompt import split_prompt
from idlora_pl.nano.corpus import SPLITS, split_seed
from idlora_pl.nano.dataset import scripts_of
from idlora_pl.nano.render import render
from idlora_pl.nano.world import ENVIRONMENTS, N_SAMPLES, VOWELS, all_texts, script, speaker

seeds = st.integers(0, 6_000_000)


@given(seeds)
def test_speakers_and_scripts_are_functions_of_their_seed(seed):
    assert speaker(seed) == speaker(seed) != speaker(seed + 1)
    assert script(seed) == script(seed) != script(seed + 1)
    assert 85 <= speaker(seed).pitch_hz <= 260
    assert len(speaker(seed).face) == 14


@given(seeds)
def test_a_script_fits_its_clip_and_its_prompt_says_words_and_place(seed):
    what = script(seed)
    ends = [start + duration for start, duration in zip(what.starts_s, what.durations_s, strict=True)]
    assert what.starts_s[0] > 0
    assert ends[-1] < 1.32
    assert all(end < start for end, start in zip(ends, what.starts_s[1:], strict=False))
    assert all(one != other for one, other in zip(what.words, what.words[1:], strict=False))
    sections = split_prompt(what.prompt)
    assert tuple(sections.speech.split()) == what.words
    assert what.environment in sections.sounds


def test_a_prompt_never_depends_on_the_speaker():
    # the same script read by other people: prompt and content are the same, the voice is not
    what = script(5)
    first, second = (render([speaker(who)], [what]) for who in (1, 2))
    assert torch.equal(first.phones, second.phones)
    assert torch.equal(first.mouth, second.mouth)
    assert not torch.equal(first.waveform, second.waveform)
    assert not torch.equal(first.frames, second.frames)


def test_a_clip_does_not_depend_on_the_clips_rendered_with_it():
    people, texts = [speaker(1), speaker(2)], [script(1), script(2)]
    both, alone = render(people, texts), render(people[1:], texts[1:])
    assert torch.equal(both.frames[1], alone.frames[0])
    assert torch.allclose(both.waveform[1], alone.waveform[0], atol=1e-6)  # sums of another order
    assert both.waveform.shape == (2, N_SAMPLES)
    assert both.waveform.abs().max() <= 1


def test_the_mouth_opens_when_a_word_is_spoken():
    clip = render([speaker(3)], [script(3)])
    spoken = clip.phones[0, 0:132:4] >= 0
    assert clip.mouth[0][spoken].mean() > 5 * clip.mouth[0][~spoken].mean()
    assert set(clip.phones.unique().tolist()) <= {-1, *range(len(VOWELS))}
    assert clip.environments.item() == ENVIRONMENTS.index(script(3).environment)


def test_the_picture_says_nothing_about_the_voice():
    # the face is drawn from another stream than the voice
    traits = torch.tensor([speaker(seed).face for seed in range(400)])
    pitches = torch.tensor([speaker(seed).pitch_hz for seed in range(400)])
    correlations = torch.corrcoef(torch.cat([pitches[None], traits.T]))[0, 1:]
    assert correlations.abs().max() < 0.2  # four standard deviations of chance


def test_splits_share_no_speaker():
    assert len({split_seed(split, index) for split in SPLITS for index in (0, 999_999)}) == 2 * len(SPLITS)
    with pytest.raises(ValueError, match="split must be one of base, train,"):
        split_seed("dev", 0)
    with pytest.raises(ValueError, match=r"must be in \[0, 1000000\); got 1000000"):
        split_seed("train", 1_000_000)


@given(st.integers(0, 5_999_999))
def test_clips_of_a_speaker_differ_in_place_and_words(who):
    scripts = scripts_of(who, len(ENVIRONMENTS))
    assert len({item.environment for item in scripts}) == len(scripts)
    assert len({item.words for item in scripts}) == len(scripts)


def test_no_training_pair_says_the_same_twice():
    # of 1,500 speakers, two had equal words in both of their clips
    pairs = [scripts_of(split_seed("train", index), 2) for index in range(1500)]
    assert [pair for pair in pairs if pair[0].words == pair[1].words] == []


def test_more_clips_than_places_are_refused():
    with pytest.raises(ValueError, match="avoid must leave one of 5 places; got 5 scripts in all of them"):
        scripts_of(0, 6)


def test_all_texts_are_those_that_scripts_have():
    texts = all_texts()
    assert len(set(texts)) == len(texts) == 6 * 5**3
    assert {" ".join(script(seed).words) for seed in range(300)} <= set(texts)


def test_every_speaker_needs_a_script():
    with pytest.raises(ValueError, match="one script a speaker; got 2 speakers, 1 scripts"):
        render([speaker(0), speaker(1)], [script(0)])
