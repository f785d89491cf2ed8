"""What the published columns could be: every score that is a reading of one, and what is undecided between them.

The authors publish one number a column and do not say which of several measurements it is. A *reading* is a score
that could be the column itself, so its level can be compared. A *stand-in* is another network that measures the same
thing on another scale: only its order of the methods can be compared. Both point the way their column points.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A score that could be, or stand in for, a published column.

    Attributes:
        score: Its name in ``scores.jsonl``.
        is_stand_in: Whether it is on another scale than any reading of the column.
    """

    score: str
    is_stand_in: bool = False


@dataclass(frozen=True)
class Choice:
    """Something that the authors did not say, with one score for each answer.

    Attributes:
        question: What is undecided.
        answers: The possible answers.
        families: Scores in the order of the answers; the scores of one family differ in nothing but the answer. The
            first family that is scored decides.
        stand_ins: Families on another scale, which decide nothing but are shown.
        remark: What is known from elsewhere.
    """

    question: str
    answers: tuple[str, ...]
    families: tuple[tuple[str, ...], ...]
    stand_ins: tuple[tuple[str, ...], ...] = ()
    remark: str = ""

    def __post_init__(self) -> None:
        """Refuse a family that does not have one score for each answer."""
        for family in (*self.families, *self.stand_ins):
            if len(family) != len(self.answers):
                raise ValueError(f"choice '{self.question}' has the answers {self.answers}, a family is {family}")


def _group(readings: str, stand_ins: str = "") -> tuple[Candidate, ...]:
    listed = [Candidate(name) for name in readings.split()]
    return (*listed, *(Candidate(name, is_stand_in=True) for name in stand_ins.split()))


GROUPS: tuple[tuple[Candidate, ...], ...] = (
    _group(
        "spk_sim_idlora spk_sim_idlora_target spk_sim spk_sim_target spk_sim_ecapa spk_sim_ecapa_target",
        "spk_sim_dvector spk_sim_dvector_target",
    ),
    _group("face_sim", "face_sim_mobilefacenet"),
    _group("lse_d"),
    _group("lse_c", "lip_coherence_lrasd lip_corr_landmarks"),
    _group("clap_environment clap_style clap_sounds clap_environment_16k clap_style_16k clap_sounds_16k"),
    _group("wer wer_standard", "wer_grammar"),
)
"""Scores that are candidates of the same column; a column is named after one of its readings."""

CHOICES = (
    Choice(
        "Spk Sim compares with",
        ("the reference", "the target"),
        (
            ("spk_sim_idlora", "spk_sim_idlora_target"),
            ("spk_sim", "spk_sim_target"),
            ("spk_sim_ecapa", "spk_sim_ecapa_target"),
        ),
        (("spk_sim_dvector", "spk_sim_dvector_target"),),
    ),
    Choice(
        "The network of Spk Sim is",
        ("the authors' hybrid", "WavLM SV", "ECAPA"),
        (
            ("spk_sim_idlora", "spk_sim", "spk_sim_ecapa"),
            ("spk_sim_idlora_target", "spk_sim_target", "spk_sim_ecapa_target"),
        ),
    ),
    Choice(
        "Face Sim compares with",
        ("the target",),
        (("face_sim",),),
        (("face_sim_mobilefacenet",),),
        "every face score here compares with the target, so no other reading can be measured; the published tables "
        "themselves speak for the target, because the Wan2.2 rows, which animate its first frame, have the highest "
        "Face Sim on the hard split",
    ),
    Choice(
        "The text of CLAP is",
        ("the environment", "the speaking style", "all sounds"),
        (
            ("clap_environment", "clap_style", "clap_sounds"),
            ("clap_environment_16k", "clap_style_16k", "clap_sounds_16k"),
        ),
    ),
    Choice(
        "CLAP hears the sound",
        ("as it is", "through 16 kHz"),
        (
            ("clap_environment", "clap_environment_16k"),
            ("clap_style", "clap_style_16k"),
            ("clap_sounds", "clap_sounds_16k"),
        ),
    ),
    Choice("The normaliser of WER is", ("the authors'", "Whisper's"), (("wer", "wer_standard"),)),
)
"""What is undecided, in the order in which it is printed."""


def candidates_of(column: str) -> tuple[Candidate, ...]:
    """Return the candidates of a published column; for a column that no group knows, the score of its name.

    Example:
        >>> [candidate.score for candidate in candidates_of("face_sim")]
        ['face_sim', 'face_sim_mobilefacenet']
    """
    readings = ((group, {one.score for one in group if not one.is_stand_in}) for group in GROUPS)
    return next((group for group, names in readings if column in names), (Candidate(column),))
