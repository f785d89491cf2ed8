"""Whose fault it is that a score is missing: only what a clip fails at counts against its method.

The codes are those of docs/scoring.md.
"""

_OF_THE_ITEM = {
    "clip_not_given",
    "no_other_clip",
    "no_other_speaker",
    "no_target",
    "no_reference",
    "no_expected_words",
    "no_expected_environment",
    "no_environment_text",
    "no_style_text",
    "no_sounds_text",
    "words_not_in_grammar",
    "language_unknown",
    "text_too_long",
    "scorer_failed",
}
_OF_OTHER_RECORDINGS = ("reference_", "target_")


def is_failure(reason: str) -> bool:
    """Say whether a clip has no score because of what the clip is like.

    What the item lacks, a reference or target that cannot be used, a clip that the method never published, and an error
    of ours are no failures of the method.

    Example:
        >>> is_failure("no_face"), is_failure("target_no_face"), is_failure("words_not_in_grammar")
        (True, False, False)
    """
    return reason not in _OF_THE_ITEM and not reason.startswith(_OF_OTHER_RECORDINGS)
