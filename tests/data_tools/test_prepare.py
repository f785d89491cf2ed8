"""One command from videos to shards: it is killed anywhere, run again, and gives the bytes of an undisturbed run."""

import json
import random
import shutil
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from data_tools.prepare import main, prepare_parser
from idlora_pl.data.shards import sha256_of
from idlora_pl.data.stream import open_shards
from tests.data_tools.conftest import noise_video

CONFIG = """
cut_clips: {size: "64", frames: 17, centre_crop: true, any_sound: true, speaker_from: folder, consent: signed,
            workers: 1}
clean_reference: {workers: 1}
caption_clips: {texts: TEXTS, workers: 1}
encode_clips: {base: smoke, batch_size: 2}
write_shards: {samples_per_shard: 2}
"""
# what is there when a run is killed in a verb, or just after it
POINTS = (
    "cut/clips/*.mp4",
    "cut/clips.jsonl",
    "voices/voices/*.wav",
    "voices/clips.jsonl",
    "captions/clips.jsonl",
    "pairs/pairs.jsonl",
    "samples/*.latents.safetensors",
)
# so near the end that a run may have ended before it is killed
LAST_POINTS = ("samples/rejected.jsonl", "shards/pairs-000000.tar", "shards/index.json")


@pytest.fixture(scope="module")
def kept_raw(tmp_path_factory) -> Path:
    """Two speakers with three videos each; tests must leave them as they are."""
    folder = tmp_path_factory.mktemp("kept") / "raw"
    for k in range(6):
        noise_video(folder / ("ann" if k < 3 else "bob") / f"v{k}.mp4", 18 + k, seed=k)
    return folder


@pytest.fixture
def raw(kept_raw, tmp_path) -> Path:
    """A copy of `kept_raw`."""
    return shutil.copytree(kept_raw, tmp_path / "raw")


@pytest.fixture
def config(tmp_path, raw, prompt) -> Path:
    """Settings of all verbs; `clean` is on, captions come from a file."""
    texts = {path.relative_to(raw).as_posix(): prompt for path in raw.rglob("*.mp4")}
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    (tmp_path / "prepare.yaml").write_text(CONFIG.replace("TEXTS", str(tmp_path / "texts.json")))
    return tmp_path / "prepare.yaml"


def words(raw: Path, output: Path, config: Path, *more: str) -> list[str]:
    """The command line."""
    return [str(raw), "--output", str(output), "--config", str(config), *more]


def hashes(output: Path) -> dict[str, str]:
    """SHA-256 of every file of a shard set, notes left out."""
    return {path.name: sha256_of(path) for path in (output / "shards").glob("*.*") if path.is_file()}


def killed(arguments: list[str], output: Path, point: str, delay_s: float = 0.0) -> bool:
    """Run prepare in a process that gets SIGKILL `delay_s` after a file is there; say whether it was still at work."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["data_tools.prepare"])
    process = context.Process(target=main, args=(arguments,))
    process.start()
    while process.is_alive() and not any(output.glob(point)):
        time.sleep(0.001)
    process.join(delay_s)
    process.kill()
    process.join()
    return process.exitcode == -9


@pytest.mark.slow
def test_a_killed_run_is_finished_with_the_bytes_of_an_undisturbed_one(raw, config, tmp_path):
    main(words(raw, tmp_path / "whole", config))
    again = words(raw, tmp_path / "again", config)
    assert killed(again, tmp_path / "again", "samples/*.latents.safetensors")
    assert not (tmp_path / "again" / "shards").exists()
    main(again)
    assert hashes(tmp_path / "again") == hashes(tmp_path / "whole")
    found = open_shards(str(tmp_path / "again" / "shards")).index
    assert (found.n_samples, len(found.shards), found.settings["consent"]) == (6, 3, "signed")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_that_is_killed_in_and_after_every_verb_gives_the_same_bytes(raw, config, tmp_path):
    main(words(raw, tmp_path / "whole", config))
    rng = random.Random(0)
    for number, point in enumerate(POINTS + LAST_POINTS):
        output = tmp_path / f"run{number}"
        delay_s = 0.0 if point in POINTS[-1:] + LAST_POINTS else rng.choice((0.0, 0.02, 0.3))
        assert killed(words(raw, output, config), output, point, delay_s) or point in LAST_POINTS, point
        main(words(raw, output, config))
        assert hashes(output) == hashes(tmp_path / "whole"), point


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_that_is_killed_again_and_again_gives_the_same_bytes(raw, config, tmp_path):
    main(words(raw, tmp_path / "whole", config))
    output, rng = tmp_path / "often", random.Random(1)
    for _ in range(12):
        killed(words(raw, output, config), output, "*", delay_s=rng.uniform(0.0, 4.0))
    main(words(raw, output, config))
    assert hashes(output) == hashes(tmp_path / "whole")


def test_unknown_consent_is_refused_before_anything_is_done(raw, config, tmp_path):
    unknown = words(raw, tmp_path / "out", config, "--cut_clips.consent", "unknown")
    with pytest.raises(SystemExit, match=r"prepare: .*nothing says how the people in it agreed; set cut_clips.consent"):
        main(unknown)
    assert not (tmp_path / "out" / "cut").exists()


def test_a_speaker_without_consent_is_refused_by_name(raw, config, tmp_path):
    (tmp_path / "agreed.json").write_text('{"ann": "signed"}')
    more = ("--cut_clips.consent", "unknown", "--cut_clips.consents", str(tmp_path / "agreed.json"))
    with pytest.raises(SystemExit, match=r"consent of 1 of 2 speakers is unknown \(bob is one\)"):
        main(words(raw, tmp_path / "out", config, *more))
    assert not (tmp_path / "out" / "pairs").exists()


@pytest.mark.slow
def test_allowed_unknown_consent_is_recorded_and_splits_become_sets(raw, config, tmp_path):
    more = ("--cut_clips.consent", "unknown", "--allow_unknown_consent", "--pair_clips.split", "0.5,0.5,0")
    # the tones of the two speakers are alike, which the leak report takes for one recording
    main(words(raw, tmp_path / "out", config, *more, "--pair_clips.leaks", "report"))
    sets = sorted(path.name for path in (tmp_path / "out" / "shards").iterdir())
    assert sets == ["train", "val"]
    speakers = []
    for name in sets:
        settings = open_shards(str(tmp_path / "out" / "shards" / name)).index.settings
        assert settings["consent"] == "unknown, allowed by --allow_unknown_consent"
        speakers += settings["consent_of_speakers"]
    assert sorted(speakers) == ["ann", "bob"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cut_clips: {sise: 64}", r"prepare: .*sise"),
        ("cut_klips: {size: 64}", r"prepare: .*cut_klips"),
        ("encode_clips: {base: big}", r"prepare: .*encode_clips.base"),
        ("cut_clips: [", r"prepare: "),
        ("write_shards: {output: elsewhere}", r"prepare: .*output"),
    ],
)
def test_a_key_that_no_verb_has_is_named(tmp_path, text, message):
    (tmp_path / "raw").mkdir()
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(SystemExit, match=message):
        main(words(tmp_path / "raw", tmp_path / "out", tmp_path / "bad.yaml"))


@pytest.mark.slow
def test_other_settings_on_a_begun_output_are_refused_and_other_workers_are_not(raw, config, tmp_path):
    assert killed(words(raw, tmp_path / "out", config), tmp_path / "out", "cut/clips.jsonl")
    with pytest.raises(SystemExit, match=r"was begun with cut_clips.size 64, now it is 96; choose a new folder"):
        main(words(raw, tmp_path / "out", config, "--cut_clips.size", "96"))
    main(words(raw, tmp_path / "out", config, "--cut_clips.workers", "2"))
    chosen = prepare_parser().parse_args(["--config", str(tmp_path / "out" / "prepare.yaml")])
    assert (chosen.cut_clips.workers, chosen.encode_clips.base) == (2, "smoke")


def test_a_mistake_is_corrected_in_the_same_folder(raw, config, tmp_path):
    wrong = ("--caption_clips.texts", str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(SystemExit, match=r"^prepare: caption_clips: .*nowhere.jsonl"):
        main(words(raw, tmp_path / "out", config, *wrong))
    assert not (tmp_path / "out" / "cut").exists()
    with pytest.raises(SystemExit, match=r"^prepare: no clip could be paired"):
        main(words(raw, tmp_path / "out", config, "--pair_clips.rule", "cross_environment"))
    cut = (tmp_path / "out" / "cut" / "clips.jsonl").stat().st_mtime_ns
    with pytest.raises(SystemExit, match=r"was begun with cut_clips.size 64, now it is 96; choose a new folder"):
        main(words(raw, tmp_path / "out", config, "--cut_clips.size", "96"))
    main(words(raw, tmp_path / "out", config))
    assert (tmp_path / "out" / "shards" / "index.json").is_file()
    assert {path.stat().st_mtime_ns < cut for path in (tmp_path / "out" / "cut" / "clips").iterdir()} == {True}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--cut_clips.size=500", "cut_clips: size must be a multiple of 32"),
        ("--cut_clips.consents=no.json", "cut_clips: no.json does not exist"),
        ("--clean_reference.backend=mine", "clean_reference: --backend must be one of noisereduce"),
        ("--caption_clips.words=ears", "caption_clips: --words must be one of wer"),
        ("--caption_clips.words=wer_grammar", "caption_clips: .*wer_grammar"),
        ("--caption_clips.with_sound=true", "caption_clips: --with_sound needs --endpoint"),
        ("--caption_clips.model=nowhere", "caption_clips: --model nowhere has no config.json"),
        ("--pair_clips.prompt=hello", r"pair_clips: --prompt: prompt section \[VISUAL\] is missing"),
        ("--pair_clips.prompts=no.json", "pair_clips: prompt file no.json does not exist"),
        ("--pair_clips.split=1,2", "pair_clips: split must be three shares"),
        ("--pair_clips.benchmark=x", "pair_clips: --benchmark x needs --split"),
        ("--encode_clips.base=ltx2-19b", "encode_clips: base 'ltx2-19b' needs weights"),
        ("--encode_clips.batch_size=0", "encode_clips: batch_size must be at least 1"),
        ("--cut_clips.clips_per_video=0", "cut_clips: clips_per_video must be at least 1"),
        ("--cut_clips.least_speech=2", "cut_clips: least_speech must be a share from 0 to 1"),
        ("--encode_clips.reference_duration=-1", "encode_clips: reference_duration must be above 0"),
        ("--encode_clips.accelerator=tpu", "encode_clips: --accelerator tpu --devices 1 cannot run here"),
        ("--encode_clips.devices=0", "encode_clips: --accelerator auto --devices 0 cannot run here"),
        ("--encode_clips.duration=1.2", "encode_clips: 30 frames at 25 fps are not 8k"),
        ("--write_shards.shard_size=big", "write_shards: shard_size must be a size such as 500MB"),
        ("--write_shards.samples_per_shard=0", "write_shards: samples_per_shard must be at least 1"),
    ],
)
def test_what_a_later_step_lacks_is_said_before_the_first_begins(raw, config, tmp_path, wrong, message):
    flag, _, value = wrong.partition("=")
    weights = ("--caption_clips.weights", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match=rf"^prepare: ({message})"):
        main(words(raw, tmp_path / "out", config, flag, value, *weights))
    assert not (tmp_path / "out" / "cut").exists()


def test_a_device_that_is_not_here_is_said_before_anything_is_cut(raw, config, tmp_path):
    asked = ("--caption_clips.words", "nano_phonemes", "--caption_clips.device", "nowhere")
    with pytest.raises(SystemExit, match=r"^prepare: caption_clips: --device nowhere is not here"):
        main(words(raw, tmp_path / "out", config, *asked))
    assert not (tmp_path / "out" / "cut").exists()


def test_speakers_that_cannot_be_found_are_said_before_anything_is_cut(raw, config, tmp_path):
    nowhere = ("--find_speakers.weights", str(tmp_path / "nowhere"), "--cut_clips.speaker_from", "none")
    with pytest.raises(SystemExit, match=r"^prepare: find_speakers: .*spk_sim_ecapa"):
        main(words(raw, tmp_path / "out", config, *nowhere))
    assert not (tmp_path / "out" / "cut").exists()


def test_prompts_that_nothing_gives_are_said_before_anything_is_cut(raw, tmp_path):
    (tmp_path / "plain.yaml").write_text(CONFIG.replace("caption_clips: {texts: TEXTS, workers: 1}\n", ""))
    with pytest.raises(SystemExit, match=r"^prepare: nothing gives the clips their prompts; set caption_clips.texts"):
        main(words(raw, tmp_path / "out", tmp_path / "plain.yaml"))
    assert not (tmp_path / "out" / "cut").exists()


def test_a_section_without_keys_is_named_before_anything_is_made(raw, tmp_path):
    for text, said in (("clean: true\nwrite_shards:\n", "None"), ("clean: true\ncut_clips: 3\n", "3")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(SystemExit, match=rf"^prepare: .*(is {said} in the config|{said})"):
            main(words(raw, tmp_path / "out", tmp_path / "bad.yaml"))
    assert not (tmp_path / "out").exists()


def test_an_output_inside_the_videos_is_refused(raw, config):
    with pytest.raises(SystemExit, match=r"output .* lies in .*, whose next run would take it for input"):
        main(words(raw, raw / "out", config))


@pytest.mark.slow
def test_sets_of_splits_that_are_no_more_are_removed(raw, config, tmp_path):
    old = tmp_path / "out" / "shards" / "test"
    (old / ".write_shards").mkdir(parents=True)
    for name in ("index.json", "pairs-000000.tar"):
        (old / name).write_bytes(b"of other pairs")
    main(words(raw, tmp_path / "out", config, "--pair_clips.split", "0.5,0.5,0", "--pair_clips.leaks", "report"))
    assert [path.name for path in old.iterdir()] == [".write_shards"]
    assert (tmp_path / "out" / "shards" / "train" / "index.json").is_file()


def test_help_shows_the_arguments_of_every_verb(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for name in ("cut_clips.size", "find_speakers.voice", "caption_clips.texts", "encode_clips.tile", "shard_size"):
        assert f"{name} " in shown, name


def test_a_missing_folder_ends_with_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match=r"^prepare: .*nowhere does not exist; give a video file or a folder"):
        main([str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"^prepare: .*output"):
        main([str(tmp_path)])


@pytest.mark.slow
def test_two_devices_give_the_bytes_of_one(raw, config, tmp_path):
    main(words(raw, tmp_path / "one", config))
    two = ("--encode_clips.devices", "2", "--encode_clips.accelerator", "cpu")
    main(words(raw, tmp_path / "two", config, *two))
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
