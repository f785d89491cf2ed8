"""Every item that is not written is in the report, with its file and the reason."""

import os
import pickle
import random
from pathlib import Path

import pytest
import torch

from data_tools.import_released import import_released
from data_tools.released.reading import PtFile, RefusedFileError
from data_tools.verb.lists import read_rows


class Code:
    """A pickle that runs a command when it is loaded without safety."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def changed(folder, **values):
    """Replace values of one file; None removes one."""

    def damage(files):
        files[folder] |= values
        files[folder] = {key: value for key, value in files[folder].items() if value is not None}

    return damage


def text(**values):
    return changed("conditions", **values)


def audio(**values):
    return changed("audio_latents", **values)


def video(**values):
    return changed("latents", **values)


def spoilt(folder, value):
    """Put one number that is not finite into a file."""

    def damage(files):
        files[folder]["latents"][1, 2, 1] = value

    return damage


def without(folder):
    return lambda files: files.pop(folder)


def whole(folder, content):
    return lambda files: files.update({folder: content})


# name: (what is done to the files, reason, kind of file that is named)
DAMAGE = {
    "no video": (without("latents"), "missing_file", "audio_latents"),
    "no sound": (without("audio_latents"), "missing_file", "latents"),
    "no voice": (without("audio_latents_clean"), "missing_file", "latents"),
    "no text": (without("conditions"), "missing_file", "latents"),
    "a list": (whole("latents", [torch.zeros(3)]), "wrong_keys", "latents"),
    "a bare tensor": (whole("conditions", torch.zeros(8, 24)), "wrong_keys", "conditions"),
    "other key": (text(prompt_embeds=None, embeds=torch.zeros(8, 24)), "wrong_keys", "conditions"),
    "no mask": (text(prompt_attention_mask=None), "wrong_keys", "conditions"),
    "one of two texts": (text(video_prompt_embeds=torch.zeros(8, 24)), "wrong_keys", "conditions"),
    "a number as text": (audio(duration="long"), "wrong_keys", "audio_latents"),
    "rate zero": (video(fps=0.0), "wrong_keys", "latents"),
    "three axes": (video(latents=torch.zeros(128, 3, 4).bfloat16()), "wrong_shape", "latents"),
    "another frame count": (video(num_frames=4), "wrong_shape", "latents"),
    "flat with another grid": (video(latents=torch.zeros(11, 128).bfloat16()), "wrong_shape", "latents"),
    "flat without a grid": (video(latents=torch.zeros(12, 128), num_frames=None), "wrong_keys", "latents"),
    "another step count": (audio(num_time_steps=16), "wrong_shape", "audio_latents"),
    "other channels of the voice": (
        changed("audio_latents_clean", latents=torch.zeros(4, 18, 16)),
        "wrong_shape",
        "audio_latents_clean",
    ),
    "one value repeated": (audio(latents=torch.zeros(1, 1, 1).expand(8, 17, 16)), "wrong_shape", "audio_latents"),
    "whole numbers": (audio(latents=torch.zeros(8, 17, 16).long()), "wrong_dtype", "audio_latents"),
    "complex numbers": (audio(latents=torch.zeros(8, 17, 16) * 1j), "wrong_dtype", "audio_latents"),
    "half precision": (video(latents=torch.zeros(128, 3, 2, 2).half()), "wrong_dtype", "latents"),
    "not a number": (spoilt("latents", torch.nan), "not_finite", "latents"),
    "infinite": (spoilt("audio_latents_clean", -torch.inf), "not_finite", "audio_latents_clean"),
    "empty": (audio(latents=torch.zeros(8, 0, 16), num_time_steps=0), "empty_audio", "audio_latents"),
    "no duration": (audio(duration=0.0), "empty_audio", "audio_latents"),
    "no token": (text(prompt_attention_mask=torch.zeros(8).long()), "wrong_mask", "conditions"),
    "padding last": (text(prompt_attention_mask=(torch.arange(8) < 4).long()), "wrong_mask", "conditions"),
    "a mask of twos": (text(prompt_attention_mask=torch.full((8,), 2)), "wrong_mask", "conditions"),
    "a longer mask": (text(prompt_attention_mask=torch.ones(9).long()), "wrong_shape", "conditions"),
    "other rate": (video(fps=29.97), "other_fps", "latents"),
    "more text": (
        text(prompt_embeds=torch.zeros(9, 24).bfloat16(), prompt_attention_mask=torch.ones(9).long()),
        "other_text",
        "conditions",
    ),
    "wider text": (text(prompt_embeds=torch.zeros(8, 32).bfloat16()), "other_text", "conditions"),
    "other video channels": (video(latents=torch.zeros(64, 3, 2, 2).bfloat16()), "other_base", "latents"),
    "other grid": (video(latents=torch.zeros(128, 3, 2, 4).bfloat16(), width=4), "other_grid", "latents"),
    "too long": (audio(latents=torch.zeros(8, 19, 16), num_time_steps=19), "length", "audio_latents"),
    "too short": (audio(latents=torch.zeros(8, 15, 16), num_time_steps=15), "length", "audio_latents"),
    "a voice too long": (
        changed("audio_latents_clean", latents=torch.zeros(8, 99, 16), num_time_steps=99),
        "length",
        "audio_latents_clean",
    ),
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """One import of three good items and all the damaged ones: the output and the rows of the report by item."""
    from tests.data_tools.conftest import released_files, save_released

    folder = tmp_path_factory.mktemp("refusals")
    for k in range(3):
        save_released(folder / "in", f"good {k}", released_files(k))
    for number, (name, (damage, _, _)) in enumerate(DAMAGE.items()):
        files = released_files(number)
        damage(files)
        save_released(folder / "in", name, files)
    import_released(str(folder / "in"), str(folder / "out"), workers=1)
    rows = read_rows(folder / "out" / "rejected.jsonl", ["key", "file", "reason", "detail"])
    assert len({row["key"] for row in rows}) == len(rows)
    return folder / "out", {row["key"]: row for row in rows}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_item_is_refused_with_its_file_and_reason(outcome, name):
    _, reason, folder = DAMAGE[name]
    row = outcome[1][name]
    assert row["reason"] == reason, row
    assert f"{folder}/{name}.pt" in row["file"]
    assert row["file"] in row["detail"]
    assert "\n" not in row["detail"]


def test_every_item_is_written_or_in_the_report(outcome, read_set):
    output, rows = outcome
    written = set(read_set(output))
    assert written == {"good 0", "good 1", "good 2"}
    assert written | set(rows) == written | set(DAMAGE)
    assert not written & set(rows)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_left_unopened(tmp_path, make_files, save_item, zipped, protocol):
    save_item(tmp_path / "in", "good", make_files(0))
    save_item(tmp_path / "in", "evil", make_files(1))
    path, trap = tmp_path / "in" / "latents" / "evil.pt", tmp_path / "ran"
    if zipped:
        torch.save({"latents": Code(trap)}, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps({"latents": Code(trap)}, protocol))
    import_released(str(tmp_path / "in"), str(tmp_path / "out"), workers=1)
    (row,) = read_rows(tmp_path / "out" / "rejected.jsonl", ["key"])
    assert row["key"] == "evil"
    assert row["reason"] in (("forbidden_pickle",) if protocol == 2 else ("forbidden_pickle", "unreadable"))
    assert "weights_only" not in row["detail"], "torch's advice to load without safety is not repeated"
    assert not trap.exists()


def test_a_class_of_a_library_is_named(tmp_path):
    torch.save({"latents": Path("x")}, tmp_path / "x.pt")
    with pytest.raises(RefusedFileError) as refused:
        PtFile.read(tmp_path / "x.pt", "latents/x.pt")
    assert refused.value.reason == "forbidden_pickle"
    assert refused.value.detail == "latents/x.pt asks for pathlib.PosixPath, which is code and no data; do not load it"


@pytest.mark.parametrize("legacy", [False, True])
def test_changed_and_cut_files_are_refused_and_never_end_the_import(tmp_path, make_files, legacy):
    """Bytes are changed at random; what is still read is a file whose values did not change, or has no checksum."""
    path, rng = tmp_path / "x.pt", random.Random(int(legacy))
    stored = make_files(0)["audio_latents"]
    torch.save(stored, path, _use_new_zipfile_serialization=not legacy)
    content, reasons = path.read_bytes(), []
    for _ in range(400):
        damaged = bytearray(content)
        if rng.random() < 0.3:
            del damaged[rng.randrange(len(damaged)) :]
        else:
            span = len(damaged) if rng.random() < 0.5 else 700
            for _ in range(rng.choice((1, 4))):
                damaged[rng.randrange(span)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            found = PtFile.read(path, "x").tensor("latents", (3,))
            assert legacy or torch.equal(found, stored["latents"])
        except RefusedFileError as error:
            reasons.append(error.reason)
    assert len(reasons) > 150
    assert set(reasons) <= {"unreadable", "forbidden_pickle", "wrong_keys", "wrong_shape", "not_finite"}


def test_one_changed_bit_of_a_value_is_noticed(tmp_path, make_files, save_item, read_set):
    for k in range(2):
        save_item(tmp_path / "in", str(k), make_files(k))
    path = tmp_path / "in" / "audio_latents" / "1.pt"
    content = bytearray(path.read_bytes())
    values = make_files(1)["audio_latents"]["latents"].numpy().tobytes()
    content[content.find(values) + 1000] ^= 1
    path.write_bytes(content)
    import_released(str(tmp_path / "in"), str(tmp_path / "out"), workers=1)
    (row,) = read_rows(tmp_path / "out" / "rejected.jsonl", ["key"])
    assert (row["key"], row["reason"]) == ("1", "unreadable")
    assert "has another checksum than was stored" in row["detail"]


def test_an_empty_file_and_a_broken_link_are_unreadable(tmp_path, make_files, save_item):
    for k in range(3):
        save_item(tmp_path / "in", str(k), make_files(k))
    (tmp_path / "in" / "latents" / "1.pt").write_bytes(b"")
    (tmp_path / "in" / "conditions" / "2.pt").unlink()
    (tmp_path / "in" / "conditions" / "2.pt").symlink_to(tmp_path / "nowhere")
    import_released(str(tmp_path / "in"), str(tmp_path / "out"), workers=1)
    rows = read_rows(tmp_path / "out" / "rejected.jsonl", ["key"])
    assert [(row["key"], row["reason"]) for row in rows] == [("1", "unreadable"), ("2", "unreadable")]


def test_the_summary_counts_reasons_and_says_what_is_no_part_of_the_layout(
    outcome, tmp_path, make_files, save_item, capsys
):
    for k in range(3):
        save_item(tmp_path / "in", str(k), make_files(k))
    (tmp_path / "in" / "latents" / "0.pt").unlink()
    (tmp_path / "in" / "latents" / "notes.txt").write_text("hello")
    (tmp_path / "in" / "videos").mkdir()
    import_released(str(tmp_path / "in"), str(tmp_path / "out"), workers=1)
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 of 3 items" in shown
    assert "missing_file" in shown
    assert "no part of the layout: 2 (latents/notes.txt, videos)" in shown
    assert "checking: 3 items in " in shown


def test_a_limit_of_refusals_ends_the_import_before_anything_is_written(tmp_path, make_files, save_item, read_set):
    for k in range(3):
        save_item(tmp_path / "in", str(k), make_files(k))
    (tmp_path / "in" / "latents" / "0.pt").unlink()
    with pytest.raises(ValueError, match=r"1 refusals, --max_rejected allows 0; .*\.out\.importing/rejected.jsonl has"):
        import_released(str(tmp_path / "in"), str(tmp_path / "out"), workers=1, max_rejected=0)
    assert not (tmp_path / "out").exists()
    import_released(str(tmp_path / "in"), str(tmp_path / "out"), workers=1, max_rejected=1)
    assert len(read_set(tmp_path / "out")) == 2


def test_input_that_is_no_such_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere is not a folder; give the one that holds latents"):
        import_released(str(tmp_path / "nowhere"), str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"holds no .pt file in latents, .* and no .tar.zst archive; give the folder"):
        import_released(str(tmp_path), str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"the shards need a place; give --output FOLDER"):
        import_released(str(tmp_path))
    for option, value, message in (
        ("target_range", "122-120", "target_range must look like 120-122; got '122-120'"),
        ("grid", "16x16", "grid must look like 16x16x16; got '16x16'"),
        ("reference_tokens", 0, "reference_tokens must be at least 1; got 0"),
        ("samples_per_shard", 0, "samples_per_shard must be at least 1; got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            import_released(str(tmp_path), str(tmp_path / "out"), **{option: value})
    assert list(tmp_path.iterdir()) == []
