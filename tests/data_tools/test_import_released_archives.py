"""Archives give the same samples as folders, without trusting a name in them and without holding all on disk."""

import io
import tarfile

import pytest
import torch

from data_tools.import_released import import_released
from data_tools.released.layout import list_folder, placed
from data_tools.released.source import Source, zstd
from data_tools.verb.lists import read_rows

FOLDERS = ("latents", "audio_latents", "audio_latents_clean", "conditions")


@pytest.fixture
def plain(tmp_path, make_files, save_item):
    """Nine items as folders."""
    for k in range(9):
        save_item(tmp_path / "plain", f"s{k % 2}/{k}", make_files(k))
    return tmp_path / "plain"


def run(source, output, **options):
    import_released(str(source), str(output), workers=options.pop("workers", 1), **options)
    return output


def same(one, other):
    tensors, others = one.tensors(), other.tensors()
    return one.meta == other.meta and all(torch.equal(tensors[name], others[name]) for name in tensors)


@pytest.fixture
def expected(plain, tmp_path, read_set):
    """Samples of the folders."""
    return read_set(run(plain, tmp_path / "from_folders"))


@pytest.mark.parametrize(
    "archives",
    [
        {folder: [folder] for folder in FOLDERS},
        {"all": FOLDERS},
        {"first": FOLDERS[:2], "second": FOLDERS[2:]},
    ],
    ids=["four", "one", "two"],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_archives_give_the_samples_of_the_folders(plain, tmp_path, pack, read_set, expected, archives, workers):
    for name, folders in archives.items():
        pack(tmp_path / "in" / f"{name}.tar.zst", plain, folders)
    found = read_set(run(tmp_path / "in", tmp_path / "out", workers=workers, samples_per_shard=4))
    assert found.keys() == expected.keys()
    assert all(same(found[name], expected[name]) for name in expected)


def test_workers_change_no_byte_of_what_archives_give(plain, tmp_path, pack, tree):
    for folder in FOLDERS:
        pack(tmp_path / "in" / f"{folder}.tar.zst", plain, [folder], backwards=folder == "conditions")
    one = tree(run(tmp_path / "in", tmp_path / "one", samples_per_shard=2))
    assert len([name for name in one if name.endswith(".tar")]) == 5
    assert tree(run(tmp_path / "in", tmp_path / "two", samples_per_shard=2, workers=2)) == one


def test_folders_and_archives_can_be_mixed(plain, tmp_path, pack, read_set, expected):
    pack(tmp_path / "in" / "text.tar.zst", plain, ["conditions"])
    for folder in FOLDERS[:3]:
        (plain / folder).rename(tmp_path / "in" / folder)
    found = read_set(run(tmp_path / "in", tmp_path / "out"))
    assert all(same(found[name], expected[name]) for name in expected)


def test_an_archive_without_folder_names_is_read_by_its_own_name(plain, tmp_path, pack, read_set, expected):
    for folder in FOLDERS:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            tar.add(plain / folder, "./")
        (tmp_path / f"in_{folder}").mkdir()
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{folder}.tar.zst").write_bytes(zstd.compress(stream.getvalue()))
    assert read_set(run(tmp_path / "in", tmp_path / "out")).keys() == expected.keys()


def test_archives_of_one_order_join_at_once_and_others_wait_on_disk(plain, tmp_path, pack):
    size = {folder: sum(file.stat().st_size for file in (plain / folder).rglob("*.pt")) for folder in FOLDERS}
    peaks = {}
    for name, backwards in (("alike", False), ("unlike", True)):
        for folder in FOLDERS:
            pack(tmp_path / name / f"{folder}.tar.zst", plain, [folder], backwards=backwards and folder == "latents")
        source = Source(list_folder(tmp_path / name, None), tmp_path / "spool")
        items = []
        for item in source.items():
            assert all(item.files[kind].is_file() for kind in item.files)
            item.discard()
            items.append(item)
        assert len(items) == 9
        assert list((tmp_path / "spool").iterdir()) == []
        peaks[name] = source.peak_bytes
    assert peaks["alike"] < 1.1 * sum(size.values()) / 9
    assert peaks["unlike"] < sum(size.values())


def test_missing_partners_duplicates_and_links_are_in_the_report(plain, tmp_path, pack, read_set):
    pack(tmp_path / "in" / "a.tar.zst", plain, FOLDERS)
    (plain / "latents" / "s0" / "0.pt").unlink()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(plain / "conditions" / "s1" / "1.pt", "conditions/s1/1.pt")
        tar.add(plain / "conditions" / "s1" / "1.pt", "conditions/alone.pt")
        tar.add(plain / "conditions" / "s1" / "1.pt", "../../conditions/up.pt")
        absolute = tarfile.TarInfo("/conditions/root.pt")
        tar.addfile(absolute, io.BytesIO())
        for kind, name in ((tarfile.SYMTYPE, "soft"), (tarfile.LNKTYPE, "hard"), (tarfile.FIFOTYPE, "pipe")):
            link = tarfile.TarInfo(f"conditions/{name}.pt")
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
        tar.add(plain / "conditions" / "s1" / "1.pt", "notes/readme.txt")
    (tmp_path / "in" / "b.tar.zst").write_bytes(zstd.compress(stream.getvalue()))
    before = {path for path in tmp_path.parent.rglob("*") if path.is_file()}
    samples = read_set(run(tmp_path / "in", tmp_path / "out"))
    assert len(samples) == 9
    rows = read_rows(tmp_path / "out" / "rejected.jsonl", ["key", "file", "reason", "detail"])
    reasons = {row["file"]: row["reason"] for row in rows}
    assert reasons.pop("b.tar.zst: conditions/alone.pt") == "missing_file"
    duplicate = [file for file, reason in reasons.items() if reason == "duplicate"]
    assert duplicate in (["a.tar.zst: conditions/s1/1.pt"], ["b.tar.zst: conditions/s1/1.pt"])
    assert {file for file, reason in reasons.items() if reason == "unsafe_member"} == {
        f"b.tar.zst: {name}.pt"
        for name in ("../../conditions/up", "/conditions/root", "conditions/soft", "conditions/hard", "conditions/pipe")
    }
    made = {path for path in tmp_path.parent.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(tmp_path / "out") for path in made), "nothing is written outside the output"


def test_two_plain_files_of_one_item_are_a_duplicate(plain, tmp_path, read_set):
    (plain / "conditions" / "s0" / "condition_x.pt").write_bytes((plain / "conditions" / "s0" / "0.pt").read_bytes())
    (plain / "conditions" / "s0" / "latent_x.pt").write_bytes((plain / "conditions" / "s0" / "2.pt").read_bytes())
    for folder in FOLDERS[:3]:
        (plain / folder / "s0" / "latent_x.pt").write_bytes((plain / folder / "s0" / "0.pt").read_bytes())
    found = read_set(run(plain, tmp_path / "out"))
    assert torch.equal(found["s0/latent_x"].text.video, found["s0/0"].text.video)
    (row,) = read_rows(tmp_path / "out" / "rejected.jsonl", ["key"])
    assert (row["file"], row["reason"]) == ("conditions/s0/latent_x.pt", "duplicate")
    assert "the item has conditions/s0/condition_x.pt already, which is used" in row["detail"]


def test_an_unpacked_archive_left_beside_its_folder_is_counted_and_not_used(plain, tmp_path, pack, read_set, expected):
    pack(plain / "latents.tar.zst", plain, ["latents"])
    found = read_set(run(plain, tmp_path / "out"))
    assert all(same(found[name], expected[name]) for name in expected)
    rows = read_rows(tmp_path / "out" / "rejected.jsonl", ["key"])
    assert [row["reason"] for row in rows] == ["duplicate"] * 9


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.98])
@pytest.mark.parametrize("form", ["tar.zst", "tar"])
def test_a_shortened_archive_ends_the_import(plain, tmp_path, pack, keep, form):
    for folder in FOLDERS:
        pack(tmp_path / "in" / f"{folder}.tar.zst", plain, [folder])
    path = tmp_path / "in" / "conditions.tar.zst"
    content = path.read_bytes() if form == "tar.zst" else zstd.decompress(path.read_bytes()).rstrip(b"\0")
    path.unlink()
    path.with_name(f"conditions.{form}").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ValueError, match=rf"conditions.{form} cannot be read past .* \(.*\); download it again"):
        run(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / ".out.importing").glob("spool*")) == []


def test_a_tar_that_ends_between_two_files_is_noticed(plain, tmp_path, pack):
    for folder in FOLDERS:
        pack(tmp_path / "in" / f"{folder}.tar.zst", plain, [folder])
    path = tmp_path / "in" / "latents.tar.zst"
    content = zstd.decompress(path.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        end = tar.getmembers()[-1].offset
    path.write_bytes(zstd.compress(content[:end]))
    with pytest.raises(ValueError, match=r"latents.tar.zst cannot be read past .*its end mark.*download it again"):
        run(tmp_path / "in", tmp_path / "out")


def test_references_under_both_names_in_archives_need_a_choice(plain, tmp_path, pack, read_set, expected):
    (plain / "audio_latents_clean").rename(plain / "reference_audio_latents")
    pack(tmp_path / "in" / "all.tar.zst", plain, (*FOLDERS[:2], "reference_audio_latents", "conditions"))
    (plain / "audio_latents").rename(plain / "audio_latents_clean")
    pack(tmp_path / "in" / "more.tar.zst", plain, ["audio_latents_clean"])
    with pytest.raises(ValueError, match=r"holds audio_latents_clean and reference_audio_latents; choose one with"):
        run(tmp_path / "in", tmp_path / "out")
    found = read_set(run(tmp_path / "in", tmp_path / "chosen", reference_folder="reference_audio_latents"))
    assert all(same(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("name", "kind", "item"),
    [
        ("latents/a/b.pt", "latents", "a/b"),
        ("./precomputed/reference_audio_latents/b.pt", "reference", "b"),
        ("conditions/condition_9.pt", "conditions", "latent_9"),
        ("latents/conditions/x.pt", "latents", "conditions/x"),
    ],
)
def test_paths_say_kind_and_item(name, kind, item):
    place = placed(name)
    assert place is not None
    assert (place.kind, place.item) == (kind, item)
    assert placed(name.replace(".pt", ".mp4")) is None
