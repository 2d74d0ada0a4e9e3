"""Files on the machines of a Ray cluster: the jobs that else run in threads of this process."""

import math
import os
import pickle
import signal
import socket
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from logging import CRITICAL, getLogger
from pathlib import Path
from typing import Any, Generic, TypeVar

import vcae
from vcae.cli.console import Outcomes, Plan, Process, R, notices
from vcae.errors import VcaeError

TASKS = 10_000
"""Most tasks of a run, since each costs the scheduler milliseconds. Of more files, a task has several."""
ATTEMPTS = 3
"""Times that a worker may die at a file before the file is given up."""
PATIENCE = 10.0
"""Seconds in which a machine must accept a connection."""
T = TypeVar("T")


class Loaded(Generic[T]):
    """Holds what a call returns, as `it`. Workers are sent the call, which each makes once."""

    def __init__(self, load: Callable[..., T], *args: Any) -> None:
        self.call, self.it = (load, *args), load(*args)

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return Loaded, self.call


class Cluster:
    """Workers of a Ray cluster, by way of Ray Data. Each has a core and a model; with CUDA, also a GPU.

    address: `local` for a cluster on this machine that ends with the run, otherwise as `ray.init` takes it.
    jobs: most workers; default: as many as the cluster has room for. device: of the models. Raises VcaeError
    if Ray is not installed, or if nothing answers at the address.
    """

    def __init__(self, address: str, jobs: int | None = None, device: str = "cpu") -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # or Ray tries for a quarter of an hour
        try:
            import ray.data  # noqa: F401
        except ImportError:
            raise VcaeError("--ray needs Ray Data, which is not installed; pip install 'vcae[ray]'") from None
        if address.startswith("ray://"):
            raise VcaeError(
                f"--ray {address}: Ray Data does not work through Ray Client; run this on a machine of the"
                " cluster, with --ray auto"
            )
        if address not in ("local", "auto"):
            host, _, port = address.rpartition(":")
            try:
                socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
            except (OSError, ValueError, OverflowError) as error:
                raise _unreachable(address, error) from None
        self.address, self.jobs, self.device = address, jobs, device

    def map(self, plan: Plan, process: Process[R]) -> Outcomes[R]:
        """Call `process` for every (source, output) on some worker; again on another where a worker dies.

        process: is sent to each worker once, with all that it refers to. Workers read and write the same
        paths as this process. Raises VcaeError where the cluster cannot be used, and what `process` raises
        beside VcaeError.
        """
        import ray
        from ray.data import ActorPoolStrategy, from_items
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        size = math.ceil(len(plan) / TASKS)
        jobs = list(enumerate(plan))
        tasks = [{"jobs": pickle.dumps(jobs[at : at + size])} for at in range(0, len(plan), size)]
        gpu = self.device.startswith("cuda")
        with _quiet(), self._connected():
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            attempts = ray.remote(num_cpus=0)(_Attempts).options(scheduling_strategy=here).remote()
            room = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 1))
            workers = ActorPoolStrategy(
                min_size=1,
                initial_size=max(1, min(room, self.jobs or room, len(tasks))),
                max_size=self.jobs,
                max_tasks_in_flight_per_actor=2,
            )
            dataset = from_items(tasks, override_num_blocks=len(tasks)).map_batches(
                _Worker,
                fn_constructor_args=(Path.cwd(), ray.cloudpickle.dumps(process), attempts, vcae.__version__),
                batch_size=1,
                compute=workers,
                num_cpus=1,
                num_gpus=1 if gpu else None,
            )
            try:
                for row in dataset.iter_rows():
                    number, told, result = pickle.loads(row["outcome"])  # noqa: S301 -- of our workers
                    for warning in told:
                        warnings.warn(warning, stacklevel=2)
                    if isinstance(result, _Fatal):
                        raise result.error
                    yield plan[number][0], result
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                raise VcaeError(f"--ray {self.address}: Ray failed ({reason}); see its logs") from error

    @contextmanager
    def _connected(self) -> Iterator[None]:
        import ray

        local = {"num_cpus": self.jobs, "include_dashboard": False} if self.address == "local" else {}
        getLogger("ray.data").setLevel(CRITICAL)
        ray.data.DataContext.get_current().enable_progress_bars = False
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            with warnings.catch_warnings(action="ignore"):  # of changes in Ray to come
                ray.init(self.address, log_to_driver=False, logging_level=CRITICAL, **local)
        except (OSError, RuntimeError, ValueError) as error:
            raise _unreachable(self.address, error) from None
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray sets another, with another exit status
        try:
            yield
        finally:
            ray.shutdown()


class _Fatal:
    """An error that ends the run."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Attempts:
    """Counts how often something was begun, since Ray repeats for ever what kills its workers."""

    def __init__(self) -> None:
        self.begun: Counter[object] = Counter()

    def another(self, name: object) -> int:
        self.begun[name] += 1
        return self.begun[name]


class _Worker:
    """Does the jobs of a task, one after the other."""

    def __init__(self, folder: Path, process: bytes, attempts: Any, version: str) -> None:
        self.attempts = attempts
        self.broken: _Fatal | None = None
        try:
            if version != vcae.__version__:
                raise VcaeError(f"--ray: a worker has vcae {vcae.__version__}; install {version} everywhere")
            os.chdir(folder)
            self.process: Process[Any] = pickle.loads(process)  # noqa: S301 -- of our driver
        except Exception as error:  # Ray would wrap it and try again
            self.broken = _Fatal(error)

    def __call__(self, task: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        jobs = pickle.loads(task["jobs"][0])  # noqa: S301
        again = self._begun(("task", jobs[0][0])) > 1  # a worker died: at which file, only counting tells
        for number, (source, path) in jobs:
            deadly = again and self._begun(number) >= ATTEMPTS
            told: list[Warning | str] = []
            with notices.printed(told.append):
                result = self.broken or self._result(source, path, deadly)
            yield {"outcome": [pickle.dumps((number, told, result))]}

    def _begun(self, name: object) -> int:
        import ray

        return int(ray.get(self.attempts.another.remote(name)))

    def _result(self, source: Path, path: Path, deadly: bool) -> Any:
        try:
            if deadly:
                raise VcaeError(f"{source}: its workers died time after time; have they enough memory?")
            return self.process(source, path, lambda *_: None)
        except VcaeError as error:
            return VcaeError(str(error))  # subclasses with other arguments cannot be unpickled
        except Exception as error:
            return _Fatal(error)


def _unreachable(address: str, error: Exception) -> VcaeError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return VcaeError(
        f"--ray {address}: no cluster answers ({reason}); start one with `ray start --head`, or give local"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the terminal what Ray prints past its loggers, to stdout and to descriptor 2."""
    mine = getattr(sys.stderr, "rich_proxied_file", sys.stderr) is sys.__stderr__
    with (
        Path(os.devnull).open("w") as nothing,
        os.fdopen(os.dup(2), "w", buffering=1) as terminal,
        redirect_stdout(nothing),
        redirect_stderr(terminal) if mine else nullcontext(),
    ):
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal.fileno(), 2)
