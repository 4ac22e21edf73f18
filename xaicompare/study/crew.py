"""Who carries a study out: this process, others on this machine, or the workers of a cluster, by joblib's backends."""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import joblib
import torch

from xaicompare.errors import StudyError
from xaicompare.study.devices import devices

BACKENDS = ("loky", "dask", "ray")
"""Where processes come from; "loky": this machine."""

_PATIENCE = 20  # seconds until a scheduler has answered


@dataclass(frozen=True)
class Crew:
    """How many processes work at once, and where.

    Raises:
        StudyError: settings that don't go together, or a device that is not there.
    """

    jobs: int = 1  # of this machine; a cluster has as many as it has
    backend: str = "loky"
    scheduler: str | None = None  # where the cluster's scheduler listens
    device: str = "cpu"  # see `DEVICES`

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise StudyError(f"backend={self.backend!r}; expected one of {', '.join(BACKENDS)}.")
        if isinstance(self.jobs, bool) or not isinstance(self.jobs, int) or self.jobs < 1:
            raise StudyError(f"jobs={self.jobs!r}; expected a whole number of at least 1.")
        if self.backend == "loky" and self.scheduler is not None:
            raise StudyError(f'scheduler={self.scheduler!r} without a cluster; expected backend="dask" beside it.')
        if self.backend == "dask" and self.scheduler is None:
            raise StudyError('backend="dask" without a scheduler; expected its address, such as tcp://host:8786.')
        if self.backend != "loky" and self.jobs != 1:
            raise StudyError(
                f"jobs={self.jobs} beside backend={self.backend!r}; expected jobs for this machine alone: a cluster "
                "has as many workers as were started."
            )
        if self.backend == "loky":
            devices(self.device)  # a cluster's head need not have what its workers have

    @property
    def alone(self) -> bool:
        """Whether this process does everything itself."""
        return self.backend == "loky" and self.jobs == 1

    @property
    def threads(self) -> int:
        """Of each process: its share of this machine's cores, or fewer where the user set torch a limit.

        On a cluster, where a worker stands for a core, 1.
        """
        if self.backend != "loky":
            return 1
        return max(1, min(joblib.cpu_count() // self.jobs, torch.get_num_threads()))

    @property
    def kind(self) -> str:
        """The kind of device of its processes: "cpu" or "cuda"; "auto" where a cluster's workers choose."""
        return devices(self.device)[0].partition(":")[0] if self.backend == "loky" else self.device

    @property
    def return_as(self) -> str:
        """Results as they come, as joblib calls it; from Ray's backend, which can't, when the last is there."""
        return "list" if self.backend == "ray" else "generator_unordered"

    @contextlib.contextmanager
    def at_work(self) -> Iterator[int]:
        """Meanwhile joblib sends calls to them; for so many `n_jobs`.

        Raises:
            StudyError: no cluster answers, or its workers can't take one call at a time.
        """
        hired = {"loky": self._loky, "dask": self._dask, "ray": self._ray}[self.backend]
        with hired() as settings, joblib.parallel_config(self.backend, **settings):
            yield self.jobs if self.backend == "loky" else -1

    @contextlib.contextmanager
    def _loky(self) -> Iterator[dict[str, Any]]:
        yield {}

    @contextlib.contextmanager
    def _dask(self) -> Iterator[dict[str, Any]]:
        distributed = _imported("distributed", self.backend)
        try:
            client = distributed.Client(self.scheduler, timeout=_PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise StudyError(
                f"no scheduler answers at {self.scheduler} ({error}); expected the address that `dask scheduler` tells."
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=_PATIENCE)
            except TimeoutError as error:
                raise StudyError(
                    f"{self.scheduler} has no workers; expected some, as `dask worker {self.scheduler} --nthreads 1 "
                    "--nworkers -1` starts on each machine."
                ) from error
            threads = max(client.nthreads().values())
            if threads > 1:
                raise StudyError(
                    f"a worker of {self.scheduler} takes {threads} tasks at once; expected processes of one thread. "
                    "Start workers by `dask worker ... --nthreads 1 --nworkers -1`."
                )
            yield {"client": client}

    @contextlib.contextmanager
    def _ray(self) -> Iterator[dict[str, Any]]:
        ray = _imported("ray", self.backend)
        register = _imported("ray.util.joblib", self.backend).register_ray
        if not ray.is_initialized():
            ray.init(address=self.scheduler, log_to_driver=False)
        register()
        yield {}


def _imported(name: str, extra: str) -> Any:
    import importlib

    try:
        with warnings.catch_warnings(action="ignore"):  # of theirs, about what they import
            return importlib.import_module(name)
    except ImportError as error:
        raise StudyError(
            f"backend={extra!r} needs {name}, which is not installed. Install xaicompare-torch[{extra}]."
        ) from error
