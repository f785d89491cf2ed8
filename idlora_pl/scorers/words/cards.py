"""The word scorers: Whisper with two normalisers, and a grammar of the GRID corpus."""

from pathlib import Path

from idlora_pl.media.reading import read_audio
from idlora_pl.metrics.clip_mean import ClipMean, mono
from idlora_pl.metrics.functional import transcript_error_rate
from idlora_pl.metrics.words import GrammarErrors, WordErrors, released_words
from idlora_pl.scorers.card import Anchor, Card, Inputs
from idlora_pl.scorers.scores import SCORES
from idlora_pl.scorers.weights import UnusableInput, WeightFile

_WHISPER = WeightFile(
    "words/whisper-large-v3",
    "a8e94b85976e5864ba3e9525c7e6c83b2a1eca42d4b797a0c7c24d778e40fd95",
    "hf download openai/whisper-large-v3 --revision 06f233fe06e710322aca913c1bc4249a0d71fce1 "
    "--include '*.json' --include merges.txt --include model.safetensors --local-dir WEIGHTS/words/whisper-large-v3",
    "Apache-2.0 (openai/whisper-large-v3)",
    hashed="model.safetensors",
)
_SPHINX = "asr_pocketsphinx/en-us"
_SPHINX_FILES = {
    "feat.params": "c982c5f75e2a30c34d2c9ef1f6b129a5a00e67e3e927565076b58664cc2404c9",
    "mdef": "2360f9a86889c1cfee8bd618a0269387911e5fb2920a594f506b18b8c79683b0",
    "means": "832019e32cac12eb318964f96f469034acb12d0348eeddc3831831a100cb4dd4",
    "noisedict": "7295b07df2c204c4f87c6782b6be1a3859d7006d4e3864181c955d6dab105a33",
    "sendump": "8c9564c0d5bef69ca9d9bf1014abe162f071644cf02cf1fa8a483c3dc165a7a8",
    "transition_matrices": "c1f7f28ea43177be734be1f88bd7f1b9a853d0e660f8599c67c6eaeca8bb539a",
    "variances": "b00d696f85e96834fc10f8e5f06428d8c4db6bffdbe5845b6f69bf6efbc48fa5",
}
_GET_SPHINX = (
    f"mkdir -p WEIGHTS/{_SPHINX} && cp \"$(python -c 'import pocketsphinx; "
    f'print(pocketsphinx.get_model_path("en-us/en-us"))\')"/* WEIGHTS/{_SPHINX}/'
)


def _whisper(weights: Path) -> ClipMean:
    from idlora_pl.scorers.words.whisper import StandardWords, Whisper

    model = Whisper.from_pretrained(weights / _WHISPER.path)
    standard = StandardWords(model.tokenizer.english_spelling_normalizer)
    return WordErrors(model, {"": released_words, "_standard": standard})


def _grammar(weights: Path) -> ClipMean:
    from idlora_pl.scorers.words.grammar import GridRecogniser

    recogniser = GridRecogniser(weights / _SPHINX)
    return GrammarErrors(recogniser, recogniser.accepts)


def _measure_whisper(scorer: ClipMean, inputs: Inputs) -> dict[str, float]:
    assert isinstance(scorer, WordErrors)
    waveform, rate = read_audio(inputs / "jfk" / "jfk.flac")
    words = (inputs / "jfk" / "transcript.txt").read_text()
    return scorer.score(mono(waveform), words, sample_rate_hz=rate).values


def grid_errors(scorer: ClipMean, folder: Path, every: int) -> dict[str, float]:
    """Score clips of the GRID corpus against their words, and against the words of the next clip.

    Args:
        scorer: A scorer of one score that hears GRID.
        folder: Of the clips, with `transcripts.tsv`.
        every: Which of the listed clips: the first, and every such one after it.

    Returns:
        `right` and `wrong`, mean scores.
    """
    assert isinstance(scorer, GrammarErrors)
    table = folder / "transcripts.tsv"
    listed = [line.split("\t") for line in table.read_text(errors="replace").splitlines()[1:]][::every]
    if not listed or any(len(line) != 3 for line in listed):
        raise UnusableInput(f"{table} must be lines of speaker, file and text after a heading, between tabs")
    right, wrong = 0.0, 0.0
    for (speaker, file, words), (_, _, others) in zip(listed, listed[1:] + listed[:1], strict=True):
        waveform, rate = read_audio(folder / speaker / file)
        score = scorer.score(mono(waveform), words, sample_rate_hz=rate)
        right += sum(score.values.values())
        wrong += transcript_error_rate(score.notes["transcript"], others)
    return {"right": right / len(listed), "wrong": wrong / len(listed)}


def _measure_grammar(scorer: ClipMean, inputs: Inputs) -> dict[str, float]:
    return grid_errors(scorer, inputs / "grid", 2)


CARDS = (
    Card(
        "wer",
        "Word and character errors of Whisper large-v3's transcript against the [SPEECH] text.",
        SCORES["wer"],
        (_WHISPER,),
        _whisper,
        Anchor(
            "Eleven seconds of Kennedy's inaugural address, the test file of openai/whisper, which it transcribes "
            "without an error.",
            dict.fromkeys(("wer", "cer", "wer_standard", "cer_standard"), 0.0),
            dict.fromkeys(("wer", "cer", "wer_standard", "cer_standard"), 0.05),
            _measure_whisper,
            ("jfk/jfk.flac", "jfk/transcript.txt"),
            "github.com/openai/whisper, tests/jfk.flac, into INPUTS/jfk, with what is said in transcript.txt beside it",
        ),
        packages=("torch", "torchaudio", "transformers", "torchmetrics"),
        notes="wer and cer use the authors' normaliser (lower case, no punctuation, numbers as written), the standard "
        "ones that of the Whisper paper, all of them after apostrophes and accents were put into one Unicode spelling; "
        "both come from one transcription with five beams. Means over clips. An empty expected text has no value here; "
        "the authors count it as 1.",
    ),
    Card(
        "wer_grammar",
        "Word errors of pocketsphinx with the grammar of the GRID corpus.",
        SCORES["wer_grammar"],
        tuple(
            WeightFile(f"{_SPHINX}/{name}", digest, _GET_SPHINX, "BSD-2-Clause (CMU)")
            for name, digest in _SPHINX_FILES.items()
        ),
        _grammar,
        Anchor(
            "Every second GRID clip (14) against their words and against those of the next clip; recorded on all "
            "27 clips as 0.11 to 0.12, and 0.70 with shuffled words.",
            {"right": 0.1, "wrong": 0.75},
            {"right": 0.06, "wrong": 0.15},
            _measure_grammar,
            ("grid/transcripts.tsv",),
            "the GRID corpus, zenodo.org/records/3625687, into INPUTS/grid, with transcripts.tsv (speaker, file, text)",
            quick=True,
        ),
        packages=("torchaudio", "pocketsphinx", "torchmetrics"),
        extra="eval",
        notes="For clips that say GRID sentences ('bin blue at f two now'); other words are words_not_in_grammar.",
    ),
)
