"""The packages of the extra `pipelines`, which `tspin --help` and profiles do without."""

from __future__ import annotations

from importlib import import_module

from tspin.errors import InputError

__all__ = ["require_kubeflow"]

_PACKAGES = ("kfp", "kfp.kubernetes")


def require_kubeflow() -> None:
    """Called by a command before it does anything else.

    Raises:
        InputError: a package is missing; the message says what to install.
    """
    try:
        for name in _PACKAGES:
            import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"the Python package '{error.name}' is missing; install what pipelines need: "
            "pip install 'tspin[pipelines]'"
        ) from None
