"""Guidance: one formula, no call without weight, and the same result in velocity and clean-estimate space."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from idlora_pl.method.flow import x0_from_velocity
from idlora_pl.method.guidance import (
    IdentityGuidance,
    ModalityGuidance,
    PerturbedGuidance,
    TextGuidance,
    guided,
)
from idlora_pl.method.perturbation import UNPERTURBED, Perturbation
from idlora_pl.method.tokens import AVSequence, TextContext, Tokens

SIGMA = torch.tensor([0.5])
NEGATIVE = TextContext(-torch.ones(1, 1, 2, dtype=torch.float64), -torch.ones(1, 1, 2, dtype=torch.float64))
scales = st.floats(-3, 8)


class CountingField:
    """A velocity field that depends on everything it is given and counts its calls."""

    def __init__(self) -> None:
        """Start at zero calls."""
        self.calls = 0

    def __call__(
        self,
        av: AVSequence,
        sigma: Tensor,
        *,
        perturbation: Perturbation = UNPERTURBED,
    ) -> tuple[Tensor, Tensor]:
        """Velocities of the target tokens."""
        self.calls += 1
        hint = av.text.video.mean() + 0.3 * sum(perturbation.blocks) + 0.1 * av.audio.n_reference
        sound, picture = (0.0, 0.0) if perturbation.isolate else (av.audio.latents.mean(), av.video.latents.mean())
        return torch.sin(av.video.latents + hint + sound), torch.cos(av.audio.target().latents * hint + picture)


def sequence(n_reference: int = 2) -> AVSequence:
    def tokens(n_tokens: int, n_reference: int = 0) -> Tokens:
        latents = torch.randn(1, n_tokens, 2, dtype=torch.float64)
        clean = (torch.arange(n_tokens) < n_reference)[None]
        return Tokens(latents, torch.zeros(1, 1, n_tokens, 2), clean, n_reference)

    text = TextContext(*(torch.ones(1, 1, 2, dtype=torch.float64),) * 2)
    return AVSequence(tokens(4), tokens(3 + n_reference, n_reference), text)


IDLE = [TextGuidance(1.0, 1.0), IdentityGuidance(0.0), PerturbedGuidance(0.0), ModalityGuidance(1.0)]


@pytest.mark.parametrize("term", IDLE)
def test_a_term_without_weight_changes_nothing_and_makes_no_call(term):
    av, field = sequence(), CountingField()
    plain = CountingField()(av, SIGMA)
    video, audio = guided(field, av, SIGMA, [term])
    assert torch.equal(video, plain[0])
    assert torch.equal(audio, plain[1])
    assert field.calls == 1


@given(st.floats(0.1, 10))
def test_identity_guidance_adds_nothing_to_the_video_velocity(scale):
    av = sequence()
    base = CountingField()(av, SIGMA)
    video, audio = guided(CountingField(), av, SIGMA, [IdentityGuidance(scale)])
    assert torch.equal(video, base[0])
    assert not torch.equal(audio, base[1])


def test_identity_guidance_without_a_reference_makes_no_call():
    av, field = sequence(n_reference=0), CountingField()
    guided(field, av, SIGMA, [IdentityGuidance(3.0)])
    assert field.calls == 1


def test_identity_guidance_is_the_contrast_with_the_model_that_heard_no_voice():
    av, field = sequence(), CountingField()
    base, deaf = field(av, SIGMA)[1], field(av.without_reference(), SIGMA)[1]
    _, audio = guided(field, av, SIGMA, [IdentityGuidance(3.0)])
    torch.testing.assert_close(audio, base + 3.0 * (base - deaf))


@given(scales, scales, scales, scales, scales)
def test_guidance_of_velocities_equals_guidance_of_clean_estimates(video, audio, identity, perturbed, modality):
    av, field = sequence(), CountingField()
    terms = [
        TextGuidance(video, audio),
        IdentityGuidance(identity),
        PerturbedGuidance(perturbed, blocks=(1,)),
        ModalityGuidance(modality),
    ]
    timesteps = av.video.timesteps(SIGMA), av.audio.target().timesteps(SIGMA)
    x = av.video.latents, av.audio.target().latents

    def estimates(velocities: tuple[Tensor, Tensor]) -> list[Tensor]:
        return [x0_from_velocity(*parts) for parts in zip(x, velocities, timesteps, strict=True)]

    base = estimates(field(av, SIGMA))
    combined = [part.clone() for part in base]
    for term in terms:
        twin = estimates(term.twin(field, av, SIGMA, NEGATIVE))
        for part, weight in enumerate(term.weights):
            combined[part] += weight * (base[part] - twin[part])
    result = estimates(guided(field, av, SIGMA, terms, NEGATIVE))
    # float64, weights up to 8: rounding below 1e-12
    torch.testing.assert_close(result, combined, atol=1e-12, rtol=0)


def test_public_scales_become_the_weights_of_the_paper():
    terms = (TextGuidance(), IdentityGuidance(), PerturbedGuidance(), ModalityGuidance())
    assert [term.weights for term in terms] == [(2, 6), (0, 3), (1, 1), (2, 2)]


def test_every_term_costs_one_call():
    field = CountingField()
    terms = [TextGuidance(), IdentityGuidance(), PerturbedGuidance(), ModalityGuidance()]
    guided(field, sequence(), SIGMA, terms, NEGATIVE)
    assert field.calls == 5


def test_text_guidance_reads_the_negative_prompt():
    av, field = sequence(), CountingField()
    base, negative = field(av, SIGMA), field(replace(av, text=NEGATIVE), SIGMA)
    video, audio = guided(field, av, SIGMA, [TextGuidance(3.0, 1.0)], NEGATIVE)
    torch.testing.assert_close(video, base[0] + 2 * (base[0] - negative[0]))
    assert torch.equal(audio, base[1])


def test_text_guidance_without_a_negative_prompt_is_refused():
    with pytest.raises(ValueError, match="TextGuidance needs a negative prompt; pass negative"):
        guided(CountingField(), sequence(), SIGMA, [TextGuidance()])
