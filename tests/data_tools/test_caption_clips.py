"""Captions from files, recognisers, a real HTTP server and a small model; every refusal has its reason."""

import base64
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from data_tools.caption_clips import caption_clips
from data_tools.verb.lists import read_rows, write_rows
from idlora_pl.benchmark.items import CAPTION
from idlora_pl.benchmark.prompt import split_prompt
from idlora_pl.nano import videos

SEEN = {
    "visual": "A man talks.",
    "sounds": "A calm voice in a quiet room.",
    "speaking_style": "calm",
    "environment_sounds": "none",
}
WHOLE = SEEN | {"speech": "Good morning."}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three nano clips of one speaker, and their truth."""
    folder = tmp_path_factory.mktemp("nano")
    videos.main([str(folder), "--speakers", "1", "--clips", "3"])
    truth = read_rows(folder / "truth.jsonl", ("source",))
    rows = [
        {"key": f"c{k}", "path": row["source"], "source": row["source"], "start_s": 10.0 * k, "duration_s": 1.32}
        for k, row in enumerate(truth)
    ]
    write_rows(folder / "clips.jsonl", rows)
    return folder / "clips.jsonl"


class Server(ThreadingHTTPServer):
    """Speaks OpenAI's protocol: answers each question with the next of `replies`, the last one again and again."""

    daemon_threads = True

    def __init__(self, replies):
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies, self.asked = list(replies), []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        replies = self.server.replies
        status, reply, headers = replies.pop(0) if len(replies) > 1 else replies[0]
        if callable(reply):
            reply = reply()
        content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def said(text, finish="stop", **message):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    return 200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}, {}


def fault(status, **headers):
    return status, {"error": {"message": "no"}}, headers


@pytest.fixture
def serve():
    running = []

    def start(*replies):
        server = Server(replies)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def captioned(clips, output, **options):
    caption_clips(str(clips), str(output), **{"workers": 1, "retries": 0} | options)
    return {row["key"]: row for row in read_rows(output / "clips.jsonl", ("key", "prompt"))}


def reasons(output):
    return {row["key"]: row["reason"] for row in read_rows(output / "rejected.jsonl", ("key", "reason", "detail"))}


def one(clips, folder):
    """Return a list of the first clip alone."""
    (folder / "one").mkdir()
    row = read_rows(clips, ("key",))[0] | {"path": str(clips.parent / read_rows(clips, ("key",))[0]["path"])}
    write_rows(folder / "one/clips.jsonl", [row])
    return folder / "one/clips.jsonl"


def test_truth_about_nano_videos_is_taken_as_it_is(clips, tmp_path):
    rows = captioned(clips, tmp_path, texts=str(clips.parent / "truth.jsonl"))
    truth = read_rows(clips.parent / "truth.jsonl", ("source",))
    assert [row["prompt"] for row in rows.values()] == [row["prompt"] for row in truth]
    assert [row["environment_sounds"] for row in rows.values()] == [row["environment"] for row in truth]
    assert (tmp_path / rows["c0"]["path"]).samefile(clips.parent / truth[0]["source"])
    assert set(rows["c0"]["caption_from"].values()) == {"files"}


def test_files_of_a_folder_are_put_together(clips, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    parts = {name: text for name, text in WHOLE.items() if name != "speech"}
    for key in ("c0", "c1", "c2"):
        (folder / f"{key}.json").write_text(json.dumps(parts))
    (folder / "c0.txt").write_text("Hello\n there.\n")
    (folder / "c1.srt").write_text(
        "1\n00:00:00,000 --> 00:00:01,000\n<i>Good</i>\n\n2\n00:00:01,000 --> 00:00:01,300\nday.\n"
    )
    source = read_rows(clips, ("source",))[2]["source"]
    subtitles = folder / source.replace(".mp4", ".srt")
    subtitles.parent.mkdir()
    subtitles.write_text("".join(f"{k}\n00:00:{10 * k},000 --> 00:00:{10 * k + 1},000\nclip {k}\n\n" for k in (1, 2)))
    rows = captioned(clips, tmp_path / "out", texts=str(folder))
    assert [row["speech"] for row in rows.values()] == ["Hello there.", "Good day.", "clip 2"]


def test_a_prompt_without_a_section_is_refused_with_its_place(clips, tmp_path):
    file = tmp_path / "texts.json"
    for given, message in (
        ({"c0": "[VISUAL]: x [SOUNDS]: y"}, r"texts.json, 'c0': prompt section \[SPEECH\] is missing"),
        ({"c0": {"visul": "x"}}, r"texts.json, 'c0' has the unknown key 'visul'; known are prompt, visual"),
        ({"c0": {"visual": 3}}, r"texts.json, 'c0' has visual 3; write text"),
        ([1], r"texts.json must be one object"),
    ):
        file.write_text(json.dumps(given))
        with pytest.raises(ValueError, match=message):
            captioned(clips, tmp_path / "out", texts=str(file))
    file.write_text("{")
    with pytest.raises(ValueError, match=r"texts.json is not JSON"):
        captioned(clips, tmp_path / "out", texts=str(file))


def test_what_no_file_says_is_rejected(clips, tmp_path):
    (tmp_path / "texts.json").write_text(json.dumps({"c0": WHOLE, "c1": SEEN}))
    assert list(captioned(clips, tmp_path / "out", texts=str(tmp_path / "texts.json"))) == ["c0"]
    assert reasons(tmp_path / "out") == {"c1": "no_section", "c2": "no_section"}


def test_a_recogniser_writes_what_is_said(clips, tmp_path):
    (tmp_path / "texts.json").write_text(json.dumps(dict.fromkeys(("c0", "c1", "c2"), SEEN)))
    rows = captioned(clips, tmp_path / "out", texts=str(tmp_path / "texts.json"), words="nano_phonemes")
    truth = [split_prompt(row["prompt"]).speech for row in read_rows(clips.parent / "truth.jsonl", ("prompt",))]
    assert [row["speech"] for row in rows.values()] == truth
    assert rows["c0"]["caption_from"]["speech"] == "nano_phonemes"
    assert rows["c0"]["language"] == "en"


def test_a_server_is_shown_pictures_and_told_the_words(clips, tmp_path, serve, monkeypatch):
    server = serve(said(f"```json\n{json.dumps(SEEN)}\n```"))
    monkeypatch.setenv("MY_KEY", "secret-7")
    options = {"endpoint": server.url, "model": "m-1", "key_variable": "MY_KEY", "words": "nano_phonemes"}
    rows = captioned(clips, tmp_path, pictures=3, **options)
    assert [row["visual"] for row in rows.values()] == ["A man talks."] * 3
    path, key, body = server.asked[0]
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer secret-7", "m-1")
    question, *pictures = body["messages"][0]["content"]
    assert f'These words are said: "{rows["c0"]["speech"]}"' in question["text"]
    assert '"speech"' not in question["text"]
    assert len(pictures) == 3
    jpeg = base64.b64decode(pictures[0]["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(jpeg)).size == (64, 64)
    assert b"secret-7" not in b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_server_that_hears_is_sent_the_sound_and_asked_for_the_words(clips, tmp_path, serve):
    server = serve(said(json.dumps(WHOLE)))
    rows = captioned(clips, tmp_path, endpoint=server.url, model="m", with_sound=True)
    assert rows["c0"]["prompt"].startswith("[VISUAL]: A man talks. [SPEECH]: Good morning. [SOUNDS]: A calm")
    content = server.asked[0][2]["messages"][0]["content"]
    assert content[-1]["input_audio"]["format"] == "wav"
    assert base64.b64decode(content[-1]["input_audio"]["data"])[:4] == b"RIFF"
    assert all(f'"{name}"' in content[0]["text"] for name in CAPTION)


def test_words_that_nobody_knows_are_not_guessed(clips, tmp_path, serve):
    server = serve(said(json.dumps(WHOLE)))
    with pytest.raises(ValueError, match="no clip has a caption"):
        captioned(clips, tmp_path, endpoint=server.url, model="m")
    assert set(reasons(tmp_path).values()) == {"no_words"}
    assert server.asked == []


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (said("I am sorry, but I cannot describe people."), "bad_answer"),
        (said(json.dumps([SEEN])), "bad_answer"),
        (said(json.dumps(WHOLE | {"mood": "good"})), "bad_answer"),
        (said(json.dumps(WHOLE | {"visual": 3})), "bad_answer"),
        (said('{"visual": "a", "visual": "b"}'), "bad_answer"),
        (said("[" * 20000), "bad_answer"),
        (said(""), "bad_answer"),
        (said(json.dumps({name: text for name, text in WHOLE.items() if name != "sounds"})), "no_section"),
        (said(json.dumps(WHOLE | {"sounds": " "})), "no_section"),
        (said(json.dumps(WHOLE | {"sounds": "[SPEECH]: hello"})), "bad_section"),
        (said(json.dumps(WHOLE)[:40], finish="length"), "cut_off"),
        (said(None, refusal="I cannot help with that."), "refused"),
        (said(None, finish="content_filter"), "refused"),
        ((200, b"<html>gateway</html>", {}), "bad_answer"),
        ((200, b"<html>gateway</html>", {"Content-Type": "text/html"}), "bad_answer"),
        ((200, {"choices": []}, {}), "bad_answer"),
        ((200, {"choices": None}, {}), "bad_answer"),
        ((200, {"choices": [{"message": "hello"}]}, {}), "bad_answer"),
        ((200, [1, 2], {}), "bad_answer"),
        (fault(400), "no_answer"),
        (fault(503), "no_answer"),
    ],
)
def test_a_bad_answer_has_its_reason(clips, tmp_path, serve, reply, reason):
    server = serve(reply)
    with pytest.raises(ValueError, match="no clip has a caption"):
        captioned(one(clips, tmp_path), tmp_path / "out", endpoint=server.url, model="m", with_sound=True)
    assert reasons(tmp_path / "out") == {"c0": reason}


def test_faults_that_pass_are_asked_again(clips, tmp_path, serve):
    server = serve(fault(503), fault(429, **{"retry-after-ms": "10"}), said(json.dumps(WHOLE)))
    options = {"endpoint": server.url, "model": "m", "with_sound": True, "retries": 2}
    assert list(captioned(one(clips, tmp_path), tmp_path / "out", **options)) == ["c0"]
    assert len(server.asked) == 3


def test_a_slow_answer_is_given_up_and_asked_for_by_the_next_run(clips, tmp_path, serve):
    def late():
        time.sleep(1.0)
        return {}

    server = serve((200, late, {}), said(json.dumps(WHOLE)))
    source = one(clips, tmp_path)
    options = {"endpoint": server.url, "model": "m", "with_sound": True, "timeout_s": 0.2}
    with pytest.raises(ValueError, match="no clip has a caption"):
        captioned(source, tmp_path / "out", **options)
    assert reasons(tmp_path / "out") == {"c0": "no_answer"}
    assert list(captioned(source, tmp_path / "out", **options | {"timeout_s": 5.0})) == ["c0"]


def test_a_wrong_key_ends_the_run_at_once(clips, tmp_path, serve):
    server = serve(fault(401))
    with pytest.raises(ValueError, match=r"/v1 says 401: .*; correct --endpoint, --model or the key in --key_variable"):
        captioned(clips, tmp_path, endpoint=server.url, model="m", with_sound=True)
    assert len(server.asked) == 1


def test_a_server_that_is_gone_ends_the_run_after_five_clips(clips, tmp_path, serve):
    rows = read_rows(clips, ("key",))
    absolute = [row | {"path": str(clips.parent / row["path"])} for row in rows]
    folder = tmp_path / "many"
    folder.mkdir()
    write_rows(folder / "clips.jsonl", [absolute[k % 3] | {"key": f"k{k}"} for k in range(9)])
    server = serve(fault(500))
    with pytest.raises(
        ValueError, match=r"5 clips in a row got no answer, the last: .* says 500.*what is done is kept"
    ):
        captioned(folder / "clips.jsonl", tmp_path / "out", endpoint=server.url, model="m", with_sound=True)
    assert len(server.asked) == 5


def test_an_interrupted_run_asks_only_about_the_rest(clips, tmp_path, serve):
    server = serve(said(json.dumps(WHOLE)), fault(401), said(json.dumps(WHOLE)))
    options = {"endpoint": server.url, "model": "m", "with_sound": True}
    with pytest.raises(ValueError, match="says 401"):
        captioned(clips, tmp_path, **options)
    assert len(captioned(clips, tmp_path, **options)) == 3
    assert len(server.asked) == 4


def test_bad_options_are_refused(clips, tmp_path):
    for options, message in (
        ({}, r"nothing says what is in the clips; give --texts, --words, --endpoint or --model"),
        ({"endpoint": "http://x/v1"}, r"--endpoint http://x/v1 needs --model"),
        ({"model": "m", "with_sound": True}, r"--with_sound needs --endpoint"),
        ({"texts": "t", "pictures": 0}, r"pictures, timeout_s and retries must be positive; got 0"),
        ({"texts": str(tmp_path / "no.json")}, r"no.json does not exist; give a JSON file or a folder of texts"),
        ({"words": "ears"}, r"--words must be one of wer, wer_grammar, nano_phonemes or a folder; got 'ears'"),
        ({"words": str(tmp_path)}, r"--words .* has no config.json; give the folder of a speech model"),
        ({"model": str(tmp_path)}, r"--model .* cannot be loaded .*; give the folder of an image-text model"),
        (
            {"endpoint": "http://x/v1", "model": "m", "key_variable": "NO_SUCH_KEY"},
            r"--key_variable NO_SUCH_KEY names no environment variable that is set",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            captioned(clips, tmp_path / "out", **options)
    with pytest.raises(ValueError, match=r"would replace .*clips.jsonl; choose another folder"):
        captioned(clips, clips.parent, texts="t")
