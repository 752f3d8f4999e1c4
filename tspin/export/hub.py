"""An exported model on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import orjson

from tspin.errors import InputError, TspinError
from tspin.models.folder import ADAPTER_CONFIG

__all__ = ["check_name_and_token", "push_model"]


def check_name_and_token(name: str) -> None:
    """Refuse, before any work, what the Hub would refuse.

    Raises:
        InputError: not a name of the Hub, or no token.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError

    # Public, and in its reference; only its type stubs do not say so.
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"--push-to {name}: expected USER/NAME: {error}") from None
    if not get_token():
        raise InputError(
            f"--push-to {name}: needs a token that may write: set HF_TOKEN, or run `hf auth login`"
        )


def push_model(folder: Path, name: str, *, public: bool) -> str:
    """Upload a model folder in one commit; the repository is made where there is none.

    Args:
        folder: As `tspin.export.model.export_model` makes it.
        name: `user/name`.
        public: Who may see a repository that is made now.

    Returns:
        The page of the commit.

    Raises:
        InputError: an adapter whose base is a folder here, which nobody else has.
        TspinError: the Hub cannot be reached, or refuses; run again to continue.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    path = folder / ADAPTER_CONFIG
    if path.is_file():
        base = str(orjson.loads(path.read_bytes())["base_model_name_or_path"])
        if Path(base).is_absolute():
            raise InputError(
                f"{folder}: an adapter on {base}, which nobody has but this machine; use --merge"
            )
    api = HfApi()
    try:
        api.create_repo(name, private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Upload model and card"
        )
    except (HfHubHTTPError, OSError) as error:
        raise TspinError(f"{name}: the Hugging Face Hub did not take it: {error}") from None
    return str(commit.commit_url)
