"""Runs the full-size experiments and speed tables, within a time, and puts what came out into benchmarks/results.

    python benchmarks/full.py --minutes 10 --out full [--device cuda] [--lockstep 8] [--graphs]
    python benchmarks/full.py --merge full/full.zip

The first needs the data sets (XAICOMPARE_DATA), no network, and a machine of yours for that long. It works through
benchmarks/full.toml, keeps every training as it finishes, goes on where it was stopped when it is called again, and
leaves one archive. The second, on any machine, adds an archive's rows to the results of the same experiments.
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import torch

from xaicompare.errors import DataError
from xaicompare.files import replacing
from xaicompare.runs import Runs
from xaicompare.study.experiment import Experiment
from xaicompare.study.experiment_folder import save_experiment
from xaicompare.study.surroundings import surroundings

HERE = Path(__file__).parent
ARCHIVE = "full.zip"
LARGEST = 15 * 2**20  # bytes of an archive
KEPT = ("runs.csv", "runs.parquet", "multipliers.parquet", "environment.json", "output.txt", "complaint.txt")
LEAST_MISSED = ("multipliers.parquet",)  # left out of an archive that would be too large


@dataclass(frozen=True)
class Part:
    """One thing to run."""

    name: str
    train: Path | None  # an experiment file
    speed: tuple[str, ...]  # else a script with its arguments

    def command(self, folder: Path, device: str, more: list[str]) -> list[str]:
        """What runs it, leaving its results in the folder, or on standard output."""
        if self.train is not None:
            given = ["--out", str(folder), "--device", device, *more]
            return [sys.executable, "-m", "xaicompare", "train", str(self.train), *given]
        script, *rest = (word.replace("{device}", device) for word in self.speed)
        return [sys.executable, str(HERE / script), *rest]

    def is_done(self, folder: Path) -> bool:
        """Whether nothing of it is left to do."""
        if self.train is None:
            return (folder / "output.txt").exists()
        wanted = Experiment.load(self.train)
        return len(Runs.load(folder).of_cells(wanted.cells())) == len(list(wanted.cells()))


def parts(path: Path) -> list[Part]:
    """What a list says there is to run, in its order.

    Raises:
        DataError: an entry is neither an experiment nor a script, or two have one name.
    """
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("part", [])
    for entry in entries:
        if set(entry) not in ({"name", "train"}, {"name", "speed"}) or not entry["name"].isidentifier():
            raise DataError(f"{path} has the part {entry}; expected a name, and either train or speed.")
    if len({entry["name"] for entry in entries}) < len(entries):
        raise DataError(f"{path} has two parts of one name; expected a name for each.")
    return [
        Part(entry["name"], path.parent / entry["train"] if "train" in entry else None, tuple(entry.get("speed", ())))
        for entry in entries
    ]


def carry_out(todo: list[Part], out: Path, seconds: float, device: str, more: list[str]) -> None:
    """Runs the parts in turn, experiments with those options, until the time is over; one that fails says why."""
    end = time.monotonic() + seconds
    for part in todo:
        folder, left = out / "parts" / part.name, end - time.monotonic()
        if part.is_done(folder):
            say(f"{part.name}: done before")
        elif left <= 0:
            say(f"{part.name}: no time left")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            say(f"{part.name}: {run_for(part, folder, left, device, more)}")


def run_for(part: Part, folder: Path, seconds: float, device: str, more: list[str]) -> str:
    """Runs one part for at most so long, and says how it ended."""
    command = part.command(folder, device, more)
    where = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    with (folder / "log.txt").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=where)
        try:
            status: int | None = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            status = None
            stop(process)
        log.seek(0)
        told = log.read()
    (folder / "environment.json").write_text(json.dumps(machine(command, device), indent=2) + "\n", encoding="utf-8")
    if status is None:
        return "stopped when the time was over; the same command goes on"
    (folder / "complaint.txt").unlink(missing_ok=True)
    if status != 0:
        (folder / "complaint.txt").write_text(told[-2000:], encoding="utf-8")
        return f"failed, see {folder / 'complaint.txt'}"
    if part.train is None:
        (folder / "output.txt").write_text(told, encoding="utf-8")
    return "done"


def stop(process: "subprocess.Popen[bytes]") -> None:
    """As Ctrl-C does, and harder if that does not help."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def machine(command: list[str], device: str) -> dict[str, object]:
    """What a part ran on."""
    shown = " ".join([Path(command[0]).name, *command[1:]]).replace(f"{HERE.parent}{os.sep}", "")
    found = {**surroundings(), "command": shown, "device": device}
    if device.startswith("cuda") and torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name(device)
    return found


def packed(todo: list[Part], out: Path) -> Path:
    """One archive of what all parts have left so far.

    Raises:
        DataError: it would be larger than 15 MiB.
    """
    for left_out in ((), LEAST_MISSED):
        kept = [name for name in KEPT if name not in left_out]
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for part in todo:
                for path in (out / "parts" / part.name / name for name in kept):
                    if path.exists():
                        archive.write(path, f"{part.name}/{path.name}")
        if buffer.tell() < LARGEST:
            with replacing(out / ARCHIVE) as path:
                path.write_bytes(buffer.getvalue())
            return out / ARCHIVE
    raise DataError(
        f"an archive of {out} has {buffer.tell() / 2**20:.1f} MiB; expected less than 15. List fewer parts."
    )


def merge(archive: Path, todo: list[Part], results: Path) -> None:
    """Puts an archive's parts into the folder of results, beside the rows that are there.

    Raises:
        DataError: it is no such archive, or holds what the list does not know.
    """
    for name, files in unpacked(archive, {part.name for part in todo}):
        part = next(part for part in todo if part.name == name)
        if part.train is None:
            for file in ("output.txt", "environment.json"):
                if file in files:
                    put(results / name / file, files[file])
        elif "runs.parquet" in files:
            say(f"{name}: {joined(Experiment.load(part.train), files, results / name)}")


def unpacked(archive: Path, names: set[str]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The files of each part, by name; nothing is written, and no file counts that `packed` does not write."""
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
            if sum(info.file_size for info in infos) > 20 * LARGEST:
                raise DataError(f"{archive} unpacks to more than 300 MiB; expected an archive of benchmarks/full.py.")
            found: dict[str, dict[str, bytes]] = {}
            for info in infos:
                part, *rest = PurePosixPath(info.filename).parts
                if part not in names or len(rest) != 1 or rest[0] not in KEPT:
                    raise DataError(f"{archive} holds {info.filename!r}; expected PART/FILE of the parts in the list.")
                found.setdefault(part, {})[rest[0]] = opened.read(info)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive} can't be read ({error}); expected an archive of benchmarks/full.py.") from error
    yield from found.items()


def joined(experiment: Experiment, files: dict[str, bytes], folder: Path) -> str:
    """Adds rows to those of a folder, writes the answers of the repeats that are complete, and says what there is."""
    fresh = read(files)
    known = {(cell.share, cell.repeat, cell.arm): experiment.key(cell) for cell in experiment.cells()}
    told = zip(fresh.table["share"], fresh.table["repeat"], fresh.table["arm"], fresh.table["key"], strict=True)
    if any(known.get((share, repeat, arm)) != key for share, repeat, arm, key in told):
        raise DataError(f"{folder.name}: the archive has trainings with other settings than its experiment file says.")
    there = Runs.read(folder / "runs.csv") if (folder / "runs.csv").exists() else Runs.of()
    same = there.of_cells(cell for cell, key in known.items() if key in set(there.table["key"]))
    have = set(zip(same.table["share"], same.table["repeat"], same.table["arm"], strict=True))
    every = same.joined(fresh.of_cells(cell for cell in known if cell not in have))
    covered = complete(experiment, every)
    put(folder / "runs.csv", every.table.to_csv(index=False).encode())
    if covered is not None:
        save_experiment(covered, every.of_cells(covered.cells()), folder)
    put(folder / "environment.json", files.get("environment.json", b"{}\n"))
    answered = "no answers yet" if covered is None else f"answers of {len(covered.shares)} shares x {covered.repeats}"
    return f"{len(every)} of {len(known)} trainings, {answered}"


def complete(experiment: Experiment, runs: Runs) -> Experiment | None:
    """The experiment with only those shares that have all arms in at least two repeats, and their common repeats."""
    done = set(zip(runs.table["share"], runs.table["repeat"], runs.table["arm"], strict=True))

    def repeats(share: float) -> int:
        counts = range(experiment.repeats)
        return next((n for n in counts if any((share, n, arm) not in done for arm in experiment.arms)), len(counts))

    shares = {share: repeats(share) for share in experiment.shares}
    kept = tuple(share for share, count in shares.items() if count >= 2)
    return replace(experiment, shares=kept, repeats=min(shares[share] for share in kept)) if kept else None


def read(files: dict[str, bytes]) -> Runs:
    """The rows of one part."""
    with tempfile.TemporaryDirectory() as folder:
        Runs.of().save(folder)  # what an archive that had to be small leaves out
        for name in ("runs.parquet", "multipliers.parquet"):
            if name in files:
                (Path(folder) / name).write_bytes(files[name])
        return Runs.load(folder)


def put(path: Path, content: bytes) -> None:
    """Writes a file as a whole."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def say(line: str) -> None:
    """To whoever waits."""
    print(line, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Runs, or merges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="how long at most")
    parser.add_argument("--out", type=Path, help="folder of what is done, and of the archive")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lockstep", type=int, default=1, help="trainings whose steps are taken together")
    parser.add_argument("--graphs", action="store_true", help="play steps back as CUDA graphs")
    parser.add_argument("--merge", type=Path, metavar="ARCHIVE", help="put an archive into the results")
    parser.add_argument("--list", type=Path, default=HERE / "full.toml", help="what to run")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where --merge puts it")
    given = parser.parse_args(arguments)
    todo = parts(given.list)
    if given.merge is not None:
        merge(given.merge, todo, given.results)
    elif given.minutes is None or given.out is None:
        parser.error("expected --minutes and --out, or --merge")
    else:
        more = [*(["--lockstep", str(given.lockstep)] if given.lockstep > 1 else []), *["--graphs"] * given.graphs]
        carry_out(todo, given.out, 60 * given.minutes, given.device, more)
        path = packed(todo, given.out)
        say(f"Archive: {path}, {path.stat().st_size / 2**20:.1f} MiB. Merge: python benchmarks/full.py --merge {path}")


if __name__ == "__main__":
    main()
