"""The rule: an output replaces only what carries our mark for the same output."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tspin.errors import InputError
from tspin.outputs.recognition import Recognition
from tspin.outputs.standing import Standing, standing_at
from tspin.records.manifest import manifest_path
from tspin.store.location import is_remote

__all__ = ["check_output"]

log = logging.getLogger(__name__)

Location = str | Path


def check_output(
    out: Location,
    ours: Recognition,
    *,
    folder: bool = False,
    grows: bool = False,
    inputs: Iterable[Location | None] = (),
    beside: Iterable[Path] = (),
    overwrite: bool | None = None,
) -> None:
    """Refuse an output that would replace what somebody else has put there. Called before any work.

    What a killed step of ours left half-made is ours, and so is an empty folder where a folder is
    to stand: Kubeflow makes those.

    Args:
        out: A path, or `s3://bucket/key`.
        ours: How the same output of ours is known.
        folder: Whether the output is a folder.
        grows: Whether files are added to the folder, which is never replaced as a whole.
        inputs: What the output is made from, which it must not touch; None is none. A model's name
            on the Hub is text, and no path while there is none of that name.
        beside: Further files that are written with it.
        overwrite: Move what is in the way aside, to `NAME.replaced-TIME`. None where there is no
            such option.

    Raises:
        InputError: the place is taken by what is not ours, or it is no place for an output.
        TspinError: a store cannot be reached, or denies it.
    """
    if not is_remote(out):
        _refuse_parents(Path(out))
        _refuse_protected(Path(out), grows=grows)
    standing = standing_at(out)
    reason = _reason(standing, ours, folder=folder, overwrite=overwrite)
    reason = None if grows and not standing.exists else reason  # It gets no manifest.
    sources = [source for source in inputs if source is not None]
    _refuse_inputs(out, sources, may_hold=grows and standing.exists and reason is None)
    _refuse_beside(out, beside, sources)
    if reason is None:
        return
    if not overwrite:
        hint = "" if overwrite is None else ", or let --overwrite move it to NAME.replaced-TIME"
        raise InputError(f"{out}: {reason}; name another {'folder' if folder else 'file'}{hint}")
    if os.environ.get("RANK", "0") == "0":  # Of several processes of one training the first.
        log.warning("%s: moved to %s", out, standing.move_aside())


def _reason(
    standing: Standing, ours: Recognition, *, folder: bool, overwrite: bool | None
) -> str | None:
    """Why what stands there is in the way; None where it is not, or nothing stands there."""
    if not standing.exists:
        return standing.foreign_manifest()
    if standing.is_folder != folder:
        return "is a file" if folder else "is a folder"
    if standing.on_its_way or (folder and not standing.names()):
        return None
    try:
        return ours(standing)
    except InputError as error:  # The manifest does not hold any more.
        if overwrite:
            return str(error)
        raise


def _refuse_parents(out: Path) -> None:
    """A path below a file can never be made."""
    for parent in out.absolute().parents:
        if parent.exists():
            if not parent.is_dir():
                raise InputError(f"{out}: {parent} is a file, so nothing can stand below it")
            return


def _refuse_protected(out: Path, *, grows: bool) -> None:
    """Folders that no output is, and that none replaces."""
    place, home = out.resolve(), _home()
    named = None
    if place == Path(place.anchor):
        named = "the root of all folders"
    elif home is not None and home.is_relative_to(place):
        named = "the home folder" if place == home else "above the home folder"
    elif not grows and Path.cwd().is_relative_to(place):
        named = "the folder that this command runs in, or above it"
    if named is not None:
        raise InputError(f"{out}: is {named}; name a place of its own for the output")


def _home() -> Path | None:
    """None for a user that the system does not know, such as any number in a container."""
    with suppress(RuntimeError):
        return Path.home().resolve()
    return None


def _refuse_inputs(out: Location, inputs: list[Location], *, may_hold: bool) -> None:
    for source in inputs:
        if is_remote(out) and is_remote(source):
            relation = _related(Path(_key(out)), Path(_key(source)), is_folder=True)
        elif not is_remote(out) and not is_remote(source) and _is_path(source):
            relation = _local_relation(Path(out), Path(source))
        else:
            continue
        if relation is not None and not (may_hold and relation == "holds"):
            raise InputError(
                f"{out}: {relation} the input {source}; name another place for the output"
            )


def _is_path(source: Location) -> bool:
    """Text may also be the name of a model on the Hub."""
    return isinstance(source, Path) or Path(source).exists()


def _key(location: Location) -> str:
    return str(location).partition("://")[2].rstrip("/")


def _local_relation(out: Path, source: Path) -> str | None:
    if out.exists() and source.exists() and out.samefile(source):
        return "is"
    return _related(out.resolve(), source.resolve(), is_folder=source.is_dir())


def _related(out: Path, source: Path, *, is_folder: bool) -> str | None:
    if out == source:
        return "is"
    if source.is_relative_to(out):
        return "holds"
    return "stands inside" if is_folder and out.is_relative_to(source) else None


def _refuse_beside(out: Location, beside: Iterable[Path], inputs: list[Location]) -> None:
    if is_remote(out):
        return
    for path in (manifest_path(Path(out)), *beside):
        for source in inputs:
            if not is_remote(source) and Path(source).resolve() == path.resolve():
                raise InputError(
                    f"{out}: with it {path.name} is written, which is the input {source}; name "
                    "another place for the output"
                )
