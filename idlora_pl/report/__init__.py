"""From ``scores.jsonl`` to tables on screen, in files and on a page with playable clips."""
