"""A recogniser that hears the sentences of the GRID corpus and nothing else: pocketsphinx with a grammar.

Letters: B clips, S samples.
"""

from pathlib import Path

from pocketsphinx import Decoder
from torch import Tensor
from torchaudio.functional import resample

_RATE_HZ = 16000
SLOTS = {
    "command": {"bin": ["B IH N"], "lay": ["L EY"], "place": ["P L EY S"], "set": ["S EH T"]},
    "colour": {"blue": ["B L UW"], "green": ["G R IY N"], "red": ["R EH D"], "white": ["W AY T", "HH W AY T"]},
    "preposition": {"at": ["AE T"], "by": ["B AY"], "in": ["IH N"], "with": ["W IH DH", "W IH TH"]},
    "letter": {
        **{"a": ["EY"], "b": ["B IY"], "c": ["S IY"], "d": ["D IY"], "e": ["IY"], "f": ["EH F"], "g": ["JH IY"]},
        **{"h": ["EY CH"], "i": ["AY"], "j": ["JH EY"], "k": ["K EY"], "l": ["EH L"], "m": ["EH M"], "n": ["EH N"]},
        **{"o": ["OW"], "p": ["P IY"], "q": ["K Y UW"], "r": ["AA R", "AA"], "s": ["EH S"], "t": ["T IY"]},
        **{"u": ["Y UW"], "v": ["V IY"], "x": ["EH K S"], "y": ["W AY"], "z": ["Z EH D", "Z IY"]},
    },
    "digit": {
        **{"zero": ["Z IH R OW", "Z IY R OW"], "one": ["W AH N"], "two": ["T UW"], "three": ["TH R IY"]},
        **{"four": ["F AO R"], "five": ["F AY V"], "six": ["S IH K S"], "seven": ["S EH V AH N"]},
        **{"eight": ["EY T"], "nine": ["N AY N"]},
    },
    "adverb": {"again": ["AH G EH N", "AH G EY N"], "now": ["N AW"], "please": ["P L IY Z"], "soon": ["S UW N"]},
}
"""The words of a GRID sentence in their order, with their pronunciations in the phones of CMUdict. W is no letter
of the corpus; Z is "zed" or "zee" (Cooke et al. 2006)."""


def grammar() -> str:
    """Return the grammar of the corpus in JSGF.

    Example:
        >>> grammar().splitlines()[2]
        'public <sentence> = <command> <colour> <preposition> <letter> <digit> <adverb>;'
    """
    sentence = " ".join(f"<{slot}>" for slot in SLOTS)
    rules = [f"<{slot}> = {' | '.join(words)};" for slot, words in SLOTS.items()]
    return "\n".join(["#JSGF V1.0;", "grammar grid;", f"public <sentence> = {sentence};", *rules])


class GridRecogniser:
    """Hears one sentence of GRID in each clip; satisfies `metrics.embedders.Transcriber`.

    A decoder adapts to what it has heard, so that its words would depend on the order of the clips; every clip
    therefore has a decoder of its own, which takes 0.04 s to make.

    Args:
        model: Folder of the acoustic model.
    """

    def __init__(self, model: Path) -> None:
        self.model = model

    def _decoder(self) -> Decoder:
        decoder = Decoder(hmm=str(self.model), dict=None, lm=None, loglevel="FATAL")
        for words in SLOTS.values():
            for word, spoken in words.items():
                for index, phones in enumerate(spoken):
                    decoder.add_word(f"{word}({index + 1})" if index else word, phones, False)
        decoder.add_jsgf_string("grid", grammar())
        decoder.activate_search("grid")
        return decoder

    def accepts(self, words: str) -> bool:
        """Say whether words in lower case are a sentence of the grammar."""
        spoken = words.split()
        return len(spoken) == len(SLOTS) and all(
            word in slot for word, slot in zip(spoken, SLOTS.values(), strict=True)
        )

    def transcribe(self, waveform: Tensor, sample_rate_hz: int, *, language: str = "en") -> list[str]:
        """Transcribe waveforms (B, S) in [-1, 1] of English; a clip without a sentence gives ""."""
        return [self._hear(one) for one in resample(waveform.float(), sample_rate_hz, _RATE_HZ)]

    def _hear(self, sound: Tensor) -> str:
        decoder = self._decoder()
        decoder.start_utt()
        samples = (sound.clamp(-1, 1) * 32767).round().short().cpu().numpy()
        decoder.process_raw(samples.tobytes(), full_utt=True)
        decoder.end_utt()
        heard = decoder.hyp()
        return "" if heard is None else str(heard.hypstr)
