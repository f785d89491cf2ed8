"""A study as a folder: `page/` to give to raters, `key.json` to keep."""

import json
import shutil
from pathlib import Path

from idlora_pl.study.design import Plan

PAGE = Path(__file__).with_name("page.html")


def write_study(plan: Plan, folder: Path) -> None:
    """Write a study; the folder appears when it is complete.

    Args:
        plan: Of `make_plan`.
        folder: A new folder: `page/index.html`, `page/clips/` and `key.json`, which names the methods.

    Raises:
        ValueError: The folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} already holds something; give a new folder, or move this one away")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    clips = partial / "page" / "clips"
    clips.mkdir(parents=True)
    for name, path in plan.files.items():
        shutil.copyfile(path, clips / name)
    # "</" would end the script element that holds the plan
    held = json.dumps(plan.page, ensure_ascii=False).replace("</", "<\\/")
    (partial / "page" / "index.html").write_text(PAGE.read_text(encoding="utf-8").replace("__PLAN__", held))
    (partial / "key.json").write_text(json.dumps(plan.key, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if folder.exists():
        folder.rmdir()
    partial.replace(folder)
