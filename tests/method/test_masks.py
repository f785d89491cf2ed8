"""Masks: what hidden text and hidden keys do to one attention, computed with torch's own attention."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from idlora_pl.method.in_context import InContext
from idlora_pl.method.masks import HIDDEN, BlindQueries, HideKeys, NotedRotary, SkipBlock, text_bias
from idlora_pl.method.tokens import TextContext


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
    hidden, seen = NotedRotary(pair, 2, ()), NotedRotary(pair, 0, ())
    outputs = [process(ATTENTION, queries, k, None, place, n) for k in (keys, other) for n in (hidden, seen)]
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[1], outputs[3])


def test_removing_keys_equals_masking_them():
    queries, keys, pair = torch.randn(1, 4, 8), torch.randn(1, 6, 8), rotary(6)
    mask = torch.zeros(1, 4, 6)
    mask[..., :2] = HIDDEN
    masked = PlainAttention()(ATTENTION, queries, keys, mask, None, pair)
    removed = HideKeys(PlainAttention())(ATTENTION, queries, keys, None, None, NotedRotary(pair, 2, ()))
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


def test_a_skipped_block_contributes_nothing_and_other_blocks_stay():
    tokens = torch.randn(1, 4, 8)
    noted = NotedRotary(rotary(4), hidden_keys=0, skipped_blocks=(1,))
    skipped, kept = SkipBlock(PlainAttention(), block=1), SkipBlock(PlainAttention(), block=2)
    assert torch.equal(skipped(ATTENTION, tokens, query_rotary_emb=noted), torch.zeros_like(tokens))
    plain = PlainAttention()(ATTENTION, tokens, query_rotary_emb=tuple(noted))
    assert torch.equal(kept(ATTENTION, tokens, query_rotary_emb=noted), plain)


def test_the_attention_backend_reaches_the_inner_processor():
    inner = PlainAttention()
    HideKeys(inner)._attention_backend = "native"
    assert inner._attention_backend == "native"


def test_no_bias_is_made_when_everything_is_seen(make_sequence):
    av = make_sequence(recipe=InContext(reference_sees_text=True))
    assert text_bias(av, torch.float32) == (None, None)
    assert text_bias(make_sequence(n_reference=0), torch.float32) == (None, None)


@pytest.mark.parametrize(("hidden_text", "value"), [("uniform", HIDDEN), ("nothing", float("-inf"))])
def test_only_reference_rows_are_hidden_from_the_text(make_sequence, hidden_text, value):
    video, audio = text_bias(make_sequence(recipe=InContext(hidden_text=hidden_text)), torch.float32)
    assert video is None
    assert audio.shape == (1, 9, 5)
    assert torch.equal(audio[:, :3], torch.full((1, 3, 5), value))
    assert torch.equal(audio[:, 3:], torch.zeros(1, 6, 5))


def test_padded_text_is_hidden_from_both_modalities(make_sequence):
    av = make_sequence(n_reference=0)
    mask = torch.tensor([[True, True, False, True, False]])
    padded = type(av)(av.video, av.audio, TextContext(av.text.video, av.text.audio, mask))
    video, audio = text_bias(padded, torch.float32)
    assert (video == HIDDEN).tolist() == (audio == HIDDEN).tolist() == [[(~mask)[0].tolist()]]
