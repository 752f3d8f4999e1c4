"""The rows of a data set on the Hugging Face Hub, streamed. The one owner of `datasets`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tspin.data.rows.opening import inner_suffix
from tspin.data.rows.problems import Problem
from tspin.data.rows.row import RawRow
from tspin.data.rows.sources import ENDINGS
from tspin.data.rows.splits import fitting_split
from tspin.errors import InputError, TspinError

__all__ = ["HubDataset", "hub_dataset", "open_hub"]

_PREFIX = "hf://datasets/"
_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_BATCH_ROWS = 512


@dataclass(frozen=True)
class HubDataset:
    """A data set by its name."""

    name: str
    """ORG/NAME."""
    revision: str | None = None
    """A branch, a tag or a commit; None is the newest commit of `main`."""
    subset: str | None = None
    """One of its configurations, where it has several."""

    def __str__(self) -> str:
        """`ORG/NAME@revision`."""
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


def hub_dataset(
    source: str, revision: str | None = None, subset: str | None = None
) -> HubDataset | None:
    """The data set that a source names, if it can be one: `hf://datasets/ORG/NAME` or `ORG/NAME`.

    What stands on this machine under that path comes first, as does what ends like a file of rows.

    Args:
        source: As the user gave it.
        revision: See `HubDataset`.
        subset: See `HubDataset`.
    """
    name = source.removeprefix(_PREFIX)
    local = name == source and (Path(source).exists() or inner_suffix(Path(source)) in ENDINGS)
    if local or _NAME.fullmatch(name) is None:
        return None
    return HubDataset(name, revision, subset)


def open_hub(
    dataset: HubDataset, split: str | None
) -> tuple[HubDataset, str, Iterator[RawRow | Problem]]:
    """Look a data set up and stream one split of it.

    Args:
        dataset: By name.
        split: As `splits.of_split` takes it.

    Returns:
        The data set at the commit that its revision is now, the split's whole name, and its rows
        with their 1-based numbers.

    Raises:
        InputError: there is no such data set, revision, configuration or split, `datasets` is not
            installed, or the Hub cannot be reached.
    """
    try:
        from datasets import get_dataset_config_names, get_dataset_split_names
        from huggingface_hub import HfApi
    except ImportError:
        raise InputError(
            f"{dataset}: no such file or folder here; reading it from the Hugging Face Hub needs "
            "the package datasets: pip install 'tspin[hub]'"
        ) from None
    with _told(dataset):
        commit = HfApi().dataset_info(dataset.name, revision=dataset.revision).sha
        at = replace(dataset, revision=commit)
        subsets = get_dataset_config_names(at.name, revision=commit)
    _choose_subset(at, subsets)
    with _told(at):
        names = get_dataset_split_names(at.name, config_name=at.subset, revision=commit)
    name = fitting_split(str(at), set(names), split)
    return at, name, _rows(at, name)


def _choose_subset(dataset: HubDataset, subsets: list[str]) -> None:
    if (dataset.subset is None and len(subsets) > 1) or dataset.subset not in (None, *subsets):
        raise InputError(
            f"{dataset}: has the configurations {', '.join(sorted(subsets))}; name one of them "
            "(--subset)"
        )


def _rows(dataset: HubDataset, split: str) -> Iterator[RawRow | Problem]:
    from datasets import load_dataset

    from tspin.data.rows.arrow import read_batches

    with _told(dataset):
        rows = load_dataset(
            dataset.name,
            dataset.subset,
            split=split,
            revision=dataset.revision,
            streaming=True,
        ).with_format("arrow")  # Tables as they stand in the files: nothing is decoded.
        yield from read_batches(Path(str(dataset)) / split, rows.iter(batch_size=_BATCH_ROWS))


@contextmanager
def _told(dataset: HubDataset) -> Iterator[None]:
    """Errors of the Hub and its clients as ours, with the way out."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub import errors

    # A failed connection is an error of the client's HTTP library, which changes between versions.
    transport: type[Exception] = getattr(errors, "HTTPError", OSError)
    try:
        yield
    except (errors.RepositoryNotFoundError, errors.GatedRepoError) as error:
        gated = isinstance(error, errors.GatedRepoError)
        what = "needs access that was granted to you" if gated else "no such file or folder here"
        raise InputError(
            f"{dataset.name}: {what}, and the Hugging Face Hub shows no such data set to you; is "
            "the name right? A private one needs a token (HF_TOKEN, or `hf auth login`)"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(
            f"{dataset.name}: has no revision {dataset.revision!r}; give a branch, tag or commit"
        ) from None
    except (errors.HfHubHTTPError, DatasetsError, ValueError) as error:
        raise TspinError(f"{dataset}: the Hugging Face Hub did not give it: {error}") from None
    except (transport, ConnectionError, OSError) as error:
        revision = "" if dataset.revision is None else f" --revision {dataset.revision}"
        folder = dataset.name.rpartition("/")[2]
        raise InputError(
            f"{dataset}: no such file or folder here, and the Hugging Face Hub cannot be reached: "
            f"{error}\nWhere there is a network, fetch it beforehand, and import the folder:\n"
            f"  hf download {dataset.name} --repo-type dataset{revision} --local-dir {folder}\n"
            f"  tspin data import {folder} ..."
        ) from None
