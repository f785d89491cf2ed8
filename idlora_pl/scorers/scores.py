"""The numbers that scorers give: names, titles, directions. They need no network, so a table is printed without one."""

from dataclasses import dataclass
from typing import Literal

from idlora_pl.metrics.chance import chance_note


@dataclass(frozen=True)
class Score:
    """One number that a scorer gives, which is one column of a table.

    Attributes:
        name: In `scores.jsonl`; two scales never share one.
        title: Printed above the column.
        better: Which direction is better; "near zero" for an offset.
        digits: Digits after the point.
        worst: What a clip that could not be scored counts as in means with a penalty; None where no such value
            makes sense.
        margin: The largest difference that still counts as not worse; None where none is named.
        note: What a reader of the number must know, printed under tables that hold it.
    """

    name: str
    title: str
    better: Literal["higher", "lower", "near zero"]
    digits: int = 3
    worst: float | None = None
    margin: float | None = None
    note: str = ""


def _voice(name: str, title: str) -> tuple[Score, ...]:
    return (
        Score(name, title, "higher", worst=0.0),
        Score(f"{name}_target", f"{title}, target", "higher", worst=0.0),
        Score(f"{name}_first_0.5s", f"{title}, first 0.5 s", "higher", worst=0.0),
        Score(f"{name}_rest", f"{title}, rest", "higher", worst=0.0),
    )


SCORES: dict[str, tuple[Score, ...]] = {
    "spk_sim": _voice("spk_sim", "Spk Sim (WavLM SV)"),
    "spk_sim_idlora": _voice("spk_sim_idlora", "Spk Sim (authors' hybrid)"),
    "spk_sim_ecapa": _voice("spk_sim_ecapa", "Spk Sim (ECAPA)"),
    "spk_sim_dvector": _voice("spk_sim_dvector", "Spk Sim (d-vector)"),
    "face_sim": (Score("face_sim", "Face Sim (ArcFace)", "higher", worst=0.0),),
    "face_sim_mobilefacenet": (Score("face_sim_mobilefacenet", "Face Sim (MobileFaceNet)", "higher", worst=0.0),),
    "lse": (
        Score("lse_d", "LSE-D", "lower", digits=2),
        Score("lse_c", "LSE-C", "higher", digits=2, worst=0.0),
        Score("lip_offset", "lip offset, frames", "near zero", digits=1),
    ),
    "lip_coherence_lrasd": (Score("lip_coherence_lrasd", "lip coherence (LR-ASD)", "higher", digits=2),),
    "lip_lag_landmarks": (
        Score("lip_lag_landmarks", "lip lag, frames", "near zero", digits=1, note=chance_note()),
        Score("lip_corr_landmarks", "lip correlation", "higher", digits=2, worst=0.0),
    ),
    "clap": (
        Score("clap_environment", "CLAP, environment", "higher", worst=0.0),
        Score("clap_style", "CLAP, style", "higher", worst=0.0),
        Score("clap_sounds", "CLAP, all sounds", "higher", worst=0.0),
    ),
    "clap_16k": (
        Score("clap_environment_16k", "CLAP, environment (16 kHz)", "higher", worst=0.0),
        Score("clap_style_16k", "CLAP, style (16 kHz)", "higher", worst=0.0),
        Score("clap_sounds_16k", "CLAP, all sounds (16 kHz)", "higher", worst=0.0),
    ),
    "wer": (
        Score("wer", "WER", "lower", worst=1.0, margin=0.01),
        Score("cer", "CER", "lower", worst=1.0, margin=0.01),
        Score("wer_standard", "WER (standard)", "lower", worst=1.0, margin=0.01),
        Score("cer_standard", "CER (standard)", "lower", worst=1.0, margin=0.01),
    ),
    "wer_grammar": (Score("wer_grammar", "WER (GRID grammar)", "lower", worst=1.0, margin=0.01),),
    "nano_speaker": (Score("speaker_similarity", "speaker similarity", "higher", worst=0.0),),
    "nano_lip_sync": (
        Score("lip_sync", "lip-sync", "higher", worst=0.0),
        Score("nano_lse_d", "LSE-D (nano)", "lower"),
        Score("nano_lse_c", "LSE-C (nano)", "higher", worst=0.0),
        Score("nano_lip_offset", "lip offset, steps (nano)", "near zero", digits=1),
    ),
    "nano_phonemes": (Score("phoneme_error_rate", "phoneme error rate", "lower", worst=1.0, margin=0.01),),
    "nano_word_leak": (Score("reference_word_leak", "reference's words leaked", "lower", worst=1.0),),
    "nano_environment": (Score("environment_accuracy", "environment accuracy", "higher", worst=0.0),),
}
"""The scores of each scorer, by its name: `idlora_pl.scorers.registry` has their cards."""

NEAR_ZERO = {score.name for scores in SCORES.values() for score in scores if score.better == "near zero"}
"""Scores of which the distance from zero is averaged."""
