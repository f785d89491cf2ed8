"""Subtitles as they are found: what is said stands in the text once, and nothing else does."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.captions.files import read_texts
from data_tools.captions.subtitles import read_cues, spoken_words


def srt(*cues: tuple[float, float, str]) -> str:
    def at(seconds: float) -> str:
        ms = round(1000 * seconds)
        return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"

    return "".join(f"{n}\n{at(start)} --> {at(end)}\n{text}\n\n" for n, (start, end, text) in enumerate(cues, 1))


def said(text: str, begin_s: float = 0.0, end_s: float = 1e9) -> str:
    return spoken_words(read_cues(text, "k.srt"), begin_s, end_s)


ROLLING = srt(
    (0.0, 3.0, "hello there"),
    (1.5, 5.0, "hello there\ngood morning"),
    (3.0, 6.0, "good morning\nhow are you"),
)


def test_rolling_captions_say_every_line_once():
    assert said(ROLLING) == "hello there good morning how are you"


def test_a_line_of_rolling_captions_is_said_before_the_next_one_appears():
    assert [said(ROLLING, *part) for part in ((0.0, 1.5), (1.5, 3.0), (3.0, 6.0))] == [
        "hello there",
        "good morning",
        "how are you",
    ]


def test_flashes_between_rolling_captions_say_nothing():
    # what ffmpeg makes of automatic captions: every line once alone for 10 ms, and a blank line above the first
    text = srt(
        (0.0, 1.99, " \nhello there"),
        (1.99, 2.0, "hello there\n "),
        (2.0, 3.99, "hello there\ngood morning"),
        (3.99, 4.0, "good morning\n "),
        (4.0, 6.0, "good morning\ngood morning to you"),
    )
    assert said(text) == "hello there good morning good morning to you"


def test_a_line_that_grows_is_said_once():
    text = srt((0.0, 1.0, "good"), (1.0, 2.0, "good morning"), (2.0, 3.0, "good morning dear"), (3.0, 4.0, "Anna"))
    assert said(text) == "good morning dear Anna"


@pytest.mark.parametrize("gap_s", [0.0, 0.5])
def test_what_is_said_twice_stays(gap_s):
    assert said(srt((0.0, 1.0, "No."), (1.0 + gap_s, 2.0 + gap_s, "No."))) == "No. No."
    assert said(srt((0.0, 1.0, "the end"), (1.0 + gap_s, 2.0 + gap_s, "end of it"))) == "the end end of it"
    if gap_s:
        assert said(srt((0.0, 1.0, "No."), (1.0 + gap_s, 2.0 + gap_s, "No. Stop."))) == "No. No. Stop."


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (r"{\an8}Hello there.", "Hello there."),
        (r"{\pos(20,30)\fad(1,2)}Hello{\i1} there{\i0}.", "Hello there."),
        ('<font color="#fff">Hello</font> <b><i>there</i></b>.', "Hello there."),
        ("<v Ann>Hello</v> <00:00:01.500><c.yellow>there</c>.", "Hello there."),
        ("Tom &amp; I don&#39;t know &lt;b&gt;", "Tom & I don't know <b>"),
        ("&gt;&gt; Hello\u00a0there&nbsp;you", "Hello there you"),
        (r"Hello\Nthere\hyou", "Hello there you"),
        ("\u202aHello\u202c \u200bthere\ufeff", "Hello there"),
        ("cafe\u0301 <3 {smiles}", "caf\u00e9 <3 {smiles}"),
        ("5 < 6 and 7 > 2", "5 < 6 and 7 > 2"),
        ("line\u2028separator", "line separator"),
        (">> Hello. >> Hi. &gt;&gt;&gt; News >>now", "Hello. Hi. News now"),
        ("a>>b", "a>>b"),
        ("- I think so.\n-Do you?\n\u2013 Yes - no, -5", "I think so. Do you? Yes - no, -5"),
        ("-5 degrees", "-5 degrees"),
        ("[Music]", ""),
        ("[MUSIC PLAYING] Hello [laughs] there (said he)", "Hello there (said he)"),
        ("Hello [indistinct\nchatter] there", "Hello there"),
        ("\u266a la la \u266b", "la la"),
    ],
)
def test_tags_and_entities_are_no_words(line, expected):
    assert said(srt((0.0, 1.0, line))) == expected


def test_a_cue_may_hold_blank_lines_and_numbers():
    text = "1\n00:00:00,000 --> 00:00:02,000\n \nhello there\n\n\nyou\n\n2\n00:00:02,000 --> 00:00:04,000\n42\n\n3\n"
    text += "00:00:04,000 --> 00:00:05,000\n7"
    assert said(text) == "hello there you 42 7"
    assert said("1\n00:00:00,000 --> 00:00:01,000\n\n\n2\n00:00:01,000 --> 00:00:02,000\nyes\n") == "yes"
    assert said("00:00:00,000 --> 00:00:01,000\nnot\n\nnumbered\n00:00:01,000 --> 00:00:02,000\nNOTE this\n") == (
        "not numbered NOTE this"
    )


def test_webvtt_is_read():
    text = (
        "WEBVTT\nKind: captions\nLanguage: en\n\nSTYLE\n::cue { color: red }\n\nintro\n"
        "00:00.000 --> 00:01.5 align:start\n"
        "hello <c>there</c>\n\nNOTE to the translator\nnot said\n\nsecond\n"
        "01:00:00.000 --> 01:00:02.000\ngood morning\n"
    )
    assert said(text) == "hello there good morning"
    assert said(text, 3600.0, 3602.0) == "good morning"


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_ends_do_not_matter(ends):
    assert said(ROLLING.replace("\n", ends)) == said(ROLLING)


def test_what_holds_no_subtitles_is_refused_with_its_line():
    with pytest.raises(ValueError, match=r"k.srt has no line 00:00:00,000 --> .*; it holds no subtitles"):
        said("hello there")
    with pytest.raises(ValueError, match=r"k.srt, line 2 is '00:00 --> 1'; write 00:00:00,000 --> 00:00:00,000"):
        said("1\n00:00 --> 1\nhello\n")


WORDS = st.lists(st.sampled_from(["a", "b", "c", "no", "yes", "well"]), min_size=1, max_size=4).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=6), st.floats(0.1, 2.0))
def test_cues_with_pauses_between_them_keep_every_word(lines, pause_s):
    cues = [(k * (2 + pause_s), k * (2 + pause_s) + 2, line) for k, line in enumerate(lines)]
    assert said(srt(*cues)) == " ".join(lines)


@given(st.lists(st.integers(0, 9).map(lambda n: f"line{n} of it"), min_size=1, max_size=8))
def test_rolled_up_cues_say_what_the_lines_say(lines):
    # two lines at a time, the upper one is the one before: numbered, so that no two neighbours are alike
    lines = [f"{line} {number}" for number, line in enumerate(lines)]
    cues = [(2.0 * k, 2.0 * k + 4, "\n".join(lines[max(0, k - 1) : k + 1])) for k in range(len(lines))]
    assert said(srt(*cues)) == " ".join(lines)


@pytest.mark.parametrize(
    ("text", "speech"),
    [
        ("Hello [laughs] there.", "Hello [laughs] there."),
        ("[sighs] Well.", "[sighs] Well."),
        ("\ufeffHello\r\nthere.\r\n", "Hello there."),
        ("[VISUAL]: A man. [SPEECH]: Good day. [SOUNDS]: Rain.", "Good day."),
    ],
)
def test_a_text_is_a_prompt_only_where_it_has_its_headings(tmp_path, text, speech):
    (tmp_path / "k.txt").write_text(text, newline="")
    assert read_texts(tmp_path, [{"key": "k"}])["k"]["speech"] == speech


def test_a_heading_that_is_none_is_refused(tmp_path):
    (tmp_path / "k.txt").write_text("[Visual]: A man. [Speech]: Good day. [Sounds]: Rain.")
    with pytest.raises(ValueError, match=re.escape("k.txt: prompt section [VISUAL] is missing")):
        read_texts(tmp_path, [{"key": "k"}])
