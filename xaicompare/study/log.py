"""What a study tells while it goes on: a line of JSON for each cell, and a line of text for each worker."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from xaicompare.errors import DataError
from xaicompare.study.store import Store
from xaicompare.study.work import Event

MAPS = "(maps)"
"""The metric of a cell that holds a method's maps."""


def begun(file: str | Path) -> None:
    """Makes the file of a log, before there is work that could be lost.

    Raises:
        DataError: the file can't be written.
    """
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).open("a", encoding="utf-8").close()
    except OSError as error:
        raise DataError(f"{file} can't be written ({error}); expected a file for the log.") from error


def logged(events: Iterator[Event], file: str | Path | None) -> Iterator[Event]:
    """The events, each also as a JSON object in a line at the end of a file, as soon as this process knows of it.

    - time: when the cell was finished (ISO 8601, UTC); seconds: how long it took; worker: host and process
    - method, metric ("(maps)": the explanations themselves); batch: from and to which image, in the study's order
    - status: "done", "left out" (there can be nothing), "failed"; error: why it is not done, else null

    A line that can't be written is lost, which the first such event notes: cells are worth more.
    """
    if file is None:
        yield from events
        return
    whole = True
    for event in events:
        try:
            with Path(file).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(_told(event)) + "\n")
        except OSError as error:
            lost = f"{file} lacks lines of this run: it could not be written ({error})."
            yield event._replace(note=f"{event.note} {lost}".strip()) if whole else event
            whole = False
        else:
            yield event


def _told(event: Event) -> dict[str, object]:
    error = event.error or event.refused
    return {
        "time": datetime.fromtimestamp(event.time, UTC).isoformat(timespec="milliseconds"),
        "method": event.label,
        "metric": event.metric or MAPS,
        "batch": event.images,
        "seconds": round(event.seconds, 4),
        "status": "failed" if event.error else "left out" if event.refused else "done",
        "error": error or None,
        "worker": event.worker,
    }


def at_work(store: Store) -> list[str]:
    """What each worker is doing."""
    return [
        f"{told['host']}:{told['pid']}  {told['label']}, {told['metric'] or MAPS}, "
        f"images {told['start']} to {told['stop'] - 1}"
        for told in store.attempts.running()
    ]
