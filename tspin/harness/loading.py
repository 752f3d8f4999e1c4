"""From the name of a task to its questions, or to one error that says what stands in the way."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from tspin.errors import InputError
from tspin.harness.folders import TaskFolders, plain_folder
from tspin.harness.quiet import quiet
from tspin.harness.requests import TaskRequest

__all__ = ["FETCHED", "LoadedTask", "harness_version", "load_task", "remedy", "without_package"]

log = logging.getLogger(__name__)

FETCHED = "TSPIN_TASKS_FETCHED"
"""Environment variable that is not empty where data of tasks are taken from the cache, and the Hub
is asked only for what is not there. Pipelines set it where a task fetches them at the start."""

_FEWSHOT_SEED = 1234
"""The harness's own: published scores were made with these examples."""

_LOCAL = {"json", "csv", "text", "parquet", "arrow"}
"""What `dataset_path` is where the questions are files."""


@dataclass(frozen=True)
class LoadedTask:
    """A task or group with its questions, ready to be asked."""

    request: TaskRequest
    loaded: dict[str, Any]
    """As the harness's TaskManager gives it: `tasks`, `groups` and `group_map`."""


def harness_version() -> str:
    """The installed version of lm-eval.

    Raises:
        InputError: it is not installed.
    """
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        raise InputError("evaluate.tasks needs lm-eval: pip install 'tspin[eval]'") from None


def load_task(request: TaskRequest, folder: Path | None, *, fresh: bool = False) -> LoadedTask:
    """Find a task and load its questions; those of the harness's own tasks come from the Hub.

    Args:
        request: The task or group.
        folder: Tasks of one's own; paths of data in them start there.
        fresh: Ask the Hub for the newest data, whatever `FETCHED` says.

    Raises:
        InputError: there is no such task, its data cannot be had, it runs code that a model
            wrote, or it needs a package that is missing.
    """
    folder = folder and plain_folder(folder.resolve())
    folders = TaskFolders(folder)
    with quiet(logging.DEBUG) as reasons:
        manager = _manager(request.name, folders)
        if request.name not in manager.all_tasks:
            raise folders.unknown(request.name, reasons.because("cannot be read", folder))
        _refuse_unsafe(request.name, manager)
        try:
            place = contextlib.chdir(folder) if folder else contextlib.nullcontext()
            with place, _pkg_resources():
                loaded = _loaded(request.name, manager, fresh=fresh)
        except ImportError as error:
            raise without_package(request.name, error) from None
        except Exception as error:
            reason = reasons.because(error, folder)
            raise _not_loaded(request.name, manager, error, reason) from error
    _refuse_without_metric(request.name, loaded["tasks"])
    for task in loaded["tasks"].values():
        if request.num_fewshot is not None:
            task.set_config(key="num_fewshot", value=request.num_fewshot)
        elif task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=_FEWSHOT_SEED)
    return LoadedTask(request, loaded)


def without_package(name: str, error: ImportError) -> InputError:
    """The error for a task that needs a package which is not installed."""
    return InputError(
        f"evaluate.tasks: {name!r} needs a package that is not installed: {error}. What the tasks "
        "of `paper` need: pip install 'tspin[eval-paper]'"
    )


def remedy(name: str) -> str:
    """What to do where something of a task can not be downloaded."""
    return (
        f"Where there is network, run `tspin fetch-tasks {name}`; here, with the same HF_HOME, set "
        "HF_HUB_OFFLINE=1. HF_ENDPOINT names a mirror of the Hub"
    )


def _refuse_without_metric(name: str, tasks: Mapping[str, Any]) -> None:
    """The harness logs that a metric of the Hub cannot be had, and fails when it first needs it."""
    for task in tasks.values():
        if task.OUTPUT_TYPE != "generate_until" or task.config.process_results is not None:
            continue  # Such a task has no use for the metrics' functions.
        for metric, function in getattr(task, "_metric_fn_list", {}).items():
            if function is None:
                raise InputError(
                    f"evaluate.tasks: {name!r} needs the metric {metric!r} of the Hugging Face Hub "
                    f"(evaluate-metric), which is neither in the cache here nor can be had. "
                    f"{remedy(name)}"
                )


def _manager(name: str, folders: TaskFolders) -> Any:
    """The harness's index of the folders that hold a task and whatever its groups refer to."""
    from lm_eval.tasks import TaskManager

    names = {name}
    while True:
        folders_of_tasks = folders.of(sorted(names))
        manager = TaskManager(include_defaults=False, include_path=list(map(str, folders_of_tasks)))
        referred = names | set(_members([name], manager))
        if folders.of(sorted(referred)) == folders_of_tasks:
            return manager
        names = referred


@contextlib.contextmanager
def _pkg_resources() -> Iterator[None]:
    """Let tasks ask for a package's version as setuptools before 82 answered it.

    IFEval of lm-eval 0.4.13 does (tasks/leaderboard/ifeval/instructions_util.py), while it is
    imported, and was otherwise told to need a package that is not installed.
    """
    if find_spec("pkg_resources") is not None:
        yield
        return
    stand_in: Any = ModuleType("pkg_resources")
    stand_in.get_distribution = distribution
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        del sys.modules["pkg_resources"]


def _loaded(name: str, manager: Any, *, fresh: bool) -> dict[str, Any]:
    """The harness's task; of what was fetched before, the Hub is asked nothing.

    `datasets` has no such mode (5.2, load.dataset_module_factory): it asks for the newest commit of
    every configuration before it looks into the cache, six times and more, and where the Hub limits
    the rate it waits for minutes, five times, although all is there. Without network it knows no
    revision, and does not find again what was chosen by `data_files` or `data_dir`.
    """
    import datasets

    if fresh or not os.environ.get(FETCHED):
        return dict(manager.load([name]))
    offline, verbosity = datasets.config.HF_HUB_OFFLINE, datasets.logging.get_verbosity()
    datasets.config.HF_HUB_OFFLINE = True
    datasets.logging.set_verbosity_error()  # It would warn of each data set that it found.
    try:
        loaded = dict(manager.load([name]))
        kwargs = [task.config.dataset_kwargs or {} for task in loaded["tasks"].values()]
        if not any("revision" in given for given in kwargs):
            return loaded
    except Exception as error:  # noqa: BLE001  (whatever it is, the Hub is asked then)
        log.info("%s: not in the cache as it is asked for (%s); asking the Hub", name, error)
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
        datasets.logging.set_verbosity(verbosity)
    return dict(manager.load([name]))


def _members(names: list[Any], manager: Any) -> Iterator[str]:
    """Names of tasks and groups below these, themselves included."""
    for named in names:
        below = named.get("task") if isinstance(named, dict) else named
        if isinstance(below, list):
            yield from _members(below, manager)
            continue
        yield str(below)
        entry = manager.task_index.get(below)
        if entry is not None and entry.kind.name == "TAG":
            yield from _members(sorted(entry.tags), manager)
        elif entry is not None and isinstance((entry.cfg or {}).get("task"), list):
            yield from _members(entry.cfg["task"], manager)


def _configs(name: str, manager: Any) -> dict[str, dict[str, Any]]:
    entries = {member: manager.task_index.get(member) for member in _members([name], manager)}
    return {member: entry.cfg or {} for member, entry in entries.items() if entry is not None}


def _refuse_unsafe(name: str, manager: Any) -> None:
    for task, config in _configs(name, manager).items():
        if config.get("unsafe_code"):
            raise InputError(
                f"evaluate.tasks: {task!r} runs code that the model wrote; such tasks are refused. "
                "Ask it in a sandbox with lm-eval itself"
            )


def _not_loaded(name: str, manager: Any, error: Exception, reason: str) -> InputError:
    configs = _configs(name, manager).values()
    hub = {str(config["dataset_path"]) for config in configs if "dataset_path" in config}
    if hub & _LOCAL or not isinstance(error, OSError):
        return InputError(f"evaluate.tasks: {name!r} could not be loaded: {reason}")
    needed = f"evaluate.tasks: {name!r} needs {', '.join(sorted(hub))} of the Hugging Face Hub, "
    if "gated dataset" in reason:  # Its text is all that datasets leaves of the Hub's answer.
        return InputError(
            f"{needed}which you may not read: {reason.rstrip('.')}. Ask for access on its page, "
            "then set HF_TOKEN or run `hf auth login`"
        )
    return InputError(
        f"{needed}which is neither in the cache here nor can be had: {reason.rstrip('.')}. "
        f"{remedy(name)}"
    )
