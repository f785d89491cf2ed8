"""Attention processors: what hidden keys and perturbations do to one attention, computed with torch's own attention."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from idlora_pl.ltx2.attention import HIDDEN, BlindQueries, HideKeys, NotedRotary, PerturbSelfAttention
from idlora_pl.method.guidance import Perturbation


class PlainAttention:
    """Attention without projections; a rotary embedding (cos, sin) is added to queries and keys."""

    _attention_backend = None

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_rotary_emb: tuple[Tensor, Tensor] | None = None,
        key_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return the attention output."""
        keys = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        shifted = keys if key_rotary_emb is None else keys + key_rotary_emb[0] + key_rotary_emb[1]
        queries = hidden_states if query_rotary_emb is None else hidden_states + query_rotary_emb[0]
        return scaled_dot_product_attention(queries, shifted, keys, attn_mask=attention_mask)


ATTENTION = nn.Identity()


def rotary(n_tokens: int) -> tuple[Tensor, Tensor]:
    return torch.randn(1, n_tokens, 8), torch.randn(1, n_tokens, 8)


def test_hidden_keys_do_not_change_the_output():
    queries, keys, place, pair = torch.randn(1, 4, 8), torch.randn(1, 6, 8), rotary(4), rotary(6)
    other = torch.cat([torch.randn(1, 2, 8), keys[:, 2:]], dim=1)
    process = HideKeys(PlainAttention())
    hidden, seen = NotedRotary(pair, 2), NotedRotary(pair, 0)
    outputs = [process(ATTENTION, queries, k, None, place, n) for k in (keys, other) for n in (hidden, seen)]
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[1], outputs[3])


def test_removing_keys_equals_masking_them():
    queries, keys, pair = torch.randn(1, 4, 8), torch.randn(1, 6, 8), rotary(6)
    mask = torch.zeros(1, 4, 6)
    mask[..., :2] = HIDDEN
    masked = PlainAttention()(ATTENTION, queries, keys, mask, None, pair)
    removed = HideKeys(PlainAttention())(ATTENTION, queries, keys, None, None, NotedRotary(pair, 2))
    torch.testing.assert_close(removed, masked)


def test_blind_queries_get_exact_zeros_and_the_others_what_they_would_get_alone():
    queries, text = torch.randn(1, 5, 8), torch.randn(1, 3, 8)
    mask = torch.zeros(1, 5, 3)
    mask[:, :2] = float("-inf")
    output = BlindQueries(PlainAttention())(ATTENTION, queries, text, mask)
    assert torch.equal(output[:, :2], torch.zeros(1, 2, 8))
    torch.testing.assert_close(output[:, 2:], PlainAttention()(ATTENTION, queries[:, 2:], text))


def test_blind_queries_have_finite_gradients():
    queries, text = torch.randn(1, 5, 8, requires_grad=True), torch.randn(1, 3, 8, requires_grad=True)
    mask = torch.full((1, 5, 3), float("-inf"))
    mask[:, 2:] = 0
    BlindQueries(PlainAttention())(ATTENTION, queries, text, mask).square().sum().backward()
    assert torch.isfinite(text.grad).all()
    assert torch.equal(queries.grad[:, :2], torch.zeros(1, 2, 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_of_hidden_gives_the_mean_of_all_text_values(dtype):
    queries, text = 3 * torch.randn(1, 2, 8, dtype=dtype), torch.randn(1, 3, 8, dtype=dtype)
    output = PlainAttention()(ATTENTION, queries, text, torch.full((1, 2, 3), HIDDEN, dtype=dtype))
    # bfloat16 has 8 bits: 1e-2
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    expected = text.mean(dim=1, keepdim=True).expand(1, 2, 8)
    torch.testing.assert_close(output, expected, atol=tolerance, rtol=0)


class ValueAttention(PlainAttention):
    """Attention that knows diffusers' switch for passing values alone."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor, *rest: object, all_perturbed: bool = False) -> Tensor:
        """Return the attention output, or the values."""
        return hidden_states if all_perturbed else super().__call__(attn, hidden_states, *rest)


@pytest.mark.parametrize(("remains", "left"), [("nothing", 0.0), ("values", 1.0)])
def test_a_perturbed_self_attention_is_replaced(remains, left):
    tokens, pair = torch.randn(2, 4, 8), rotary(4)
    noted = NotedRotary(pair, perturbation=Perturbation(blocks=(1,)))
    process = PerturbSelfAttention(ValueAttention(), 1, "video", remains)
    assert torch.equal(process(ATTENTION, tokens, query_rotary_emb=noted), left * tokens)


@pytest.mark.parametrize(("block", "modality"), [(2, "video"), (1, "audio")])
def test_another_block_or_modality_stays_as_it_is(block, modality):
    tokens, pair = torch.randn(2, 4, 8), rotary(4)
    noted = NotedRotary(pair, perturbation=Perturbation(blocks=(1,), modalities="video"))
    process = PerturbSelfAttention(PlainAttention(), block, modality, "nothing")
    plain = PlainAttention()(ATTENTION, tokens, query_rotary_emb=pair)
    assert torch.equal(process(ATTENTION, tokens, query_rotary_emb=noted), plain)


def test_the_attention_backend_reaches_the_inner_processor():
    inner = PlainAttention()
    HideKeys(inner)._attention_backend = "native"
    assert inner._attention_backend == "native"
