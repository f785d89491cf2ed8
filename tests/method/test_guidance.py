"""Guidance: one formula, no call without weight, and the same result in velocity and clean-estimate space."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idlora_pl.method.flow import x0_from_velocity
from idlora_pl.method.guidance import (
    UNPERTURBED,
    Guidance,
    IdentityGuidance,
    ModalityGuidance,
    Perturbation,
    PerturbedGuidance,
    TextGuidance,
    guided,
)
from idlora_pl.method.tokens import AVSequence, TextContext, Tokens

SIGMA = torch.tensor([0.5])
NEGATIVE = TextContext(-torch.ones(1, 1, 2, dtype=torch.float64), -torch.ones(1, 1, 2, dtype=torch.float64))
scales = st.floats(-3, 8)


class CountingField:
    """A velocity field that depends on everything it is given, sample by sample, and counts its calls."""

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
        hint = mean(av.text.video) + 0.3 * sum(perturbation.blocks) + 0.1 * av.audio.n_reference
        hint = hint + (0.2 if perturbation.modalities == "video" else 0.0) + sigma[:, None, None]
        sound, picture = (0.0, 0.0) if perturbation.isolate else (mean(av.audio.latents), mean(av.video.latents))
        return torch.sin(av.video.latents + hint + sound), torch.cos(av.audio.target().latents * hint + picture)


def mean(tokens: Tensor) -> Tensor:
    return tokens.mean(dim=(1, 2), keepdim=True)


def sequence(n_reference: int = 2, batch: int = 1) -> AVSequence:
    def tokens(n_tokens: int, n_clean: int, n_reference: int = 0) -> Tokens:
        latents = torch.randn(batch, n_tokens, 2, dtype=torch.float64)
        clean = (torch.arange(n_tokens) < n_clean).expand(batch, -1)
        return Tokens(latents, torch.zeros(batch, 1, n_tokens, 2), clean, n_reference)

    text = TextContext(*(torch.ones(batch, 1, 2, dtype=torch.float64),) * 2)
    return AVSequence(tokens(4, 1), tokens(3 + n_reference, n_reference, n_reference), text)


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


def terms_of(
    video: float, audio: float, identity: float, perturbed: float, modality: float, projected: bool
) -> list[Guidance]:
    return [
        TextGuidance(video, audio, projected),
        IdentityGuidance(identity),
        PerturbedGuidance(perturbed, blocks=(1,), modalities="video"),
        ModalityGuidance(modality),
    ]


@given(scales, scales, scales, scales, scales, st.booleans())
def test_guidance_of_velocities_equals_guidance_of_clean_estimates(v, a, identity, perturbed, modality, projected):
    av, field = sequence(batch=2), CountingField()
    sigma = torch.tensor([0.5, 0.9], dtype=torch.float64)
    negative = NEGATIVE.expand(2)

    def x0(sequence: AVSequence, perturbation: Perturbation = UNPERTURBED) -> list[Tensor]:
        """Clean estimates of all tokens, x - v t with t = 0 on clean tokens, as the scripts compute them."""
        velocities = field(sequence, sigma, perturbation=perturbation)
        rows = torch.cat([torch.zeros(2, sequence.audio.n_reference, 2), velocities[1]], dim=1)
        moved = ((sequence.video, velocities[0]), (sequence.audio, rows))
        return [x0_from_velocity(tokens.latents, v, tokens.timesteps(sigma)) for tokens, v in moved]

    def text_contrast(positive: Tensor, negative: Tensor) -> Tensor:
        factor = torch.ones(2)
        if projected:
            factor = torch.stack(
                [(p * n).sum() / ((n * n).sum() + 1e-8) for p, n in zip(positive, negative, strict=True)]
            )
        return positive - factor[:, None, None] * negative

    p, n = x0(av), x0(replace(av, text=negative))
    r, s, b = x0(av.without_reference()), x0(av, Perturbation((1,), "video")), x0(av, Perturbation(isolate=True))
    voice = torch.cat([torch.zeros(2, 2, 2), p[1][:, 2:] - r[1]], dim=1)
    # spec section 4.4, with the text contrast of section 4.6
    video = p[0] + (v - 1) * text_contrast(p[0], n[0]) + perturbed * (p[0] - s[0]) + (modality - 1) * (p[0] - b[0])
    audio = p[1] + (a - 1) * text_contrast(p[1], n[1]) + perturbed * (p[1] - s[1]) + (modality - 1) * (p[1] - b[1])
    audio = audio + identity * voice

    result = guided(field, av, sigma, terms_of(v, a, identity, perturbed, modality, projected), negative)
    for tokens, velocity, expected in ((av.video, result[0], video), (av.audio, result[1], audio)):
        blended = torch.where(tokens.clean[..., None], tokens.latents, expected)
        actual = tokens.moved(velocity, -sigma[:, None, None]).latents
        # float64, weights up to 8 on numbers up to 10: rounding below 1e-11
        torch.testing.assert_close(actual, blended, atol=1e-11, rtol=0)


@settings(max_examples=30)
@given(scales, scales, scales, scales, scales, st.booleans())
def test_guidance_of_a_batch_equals_its_samples_one_by_one(sample_of, v, a, identity, perturbed, modality, projected):
    av, field, sigma = sequence(batch=3), CountingField(), torch.tensor([0.2, 0.5, 0.9])
    terms = terms_of(v, a, identity, perturbed, modality, projected)
    together = guided(field, av, sigma, terms, NEGATIVE.expand(3))
    for index in range(3):
        alone = guided(field, sample_of(av, index), sigma[index : index + 1], terms, NEGATIVE)
        for part, expected in zip(alone, together, strict=True):
            torch.testing.assert_close(part, expected[index : index + 1], atol=1e-12, rtol=1e-12)


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
