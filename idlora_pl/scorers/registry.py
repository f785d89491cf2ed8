"""All scorers by name."""

from idlora_pl.scorers import nano
from idlora_pl.scorers.card import Card
from idlora_pl.scorers.face import cards as face
from idlora_pl.scorers.lips import cards as lips
from idlora_pl.scorers.sounds import cards as sounds
from idlora_pl.scorers.speaker import cards as speaker
from idlora_pl.scorers.words import cards as words

_FAMILIES = (speaker, face, lips, sounds, words, nano)

CARDS: dict[str, Card] = {card.name: card for module in _FAMILIES for card in module.CARDS}


def card_named(name: str) -> Card:
    """Return the card of a scorer.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in CARDS:
        raise ValueError(f"scorer must be one of {', '.join(CARDS)}; got {name!r}")
    return CARDS[name]
