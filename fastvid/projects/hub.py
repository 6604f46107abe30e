"""An exported folder as a model repository on the Hugging Face hub."""

import os
from pathlib import Path
from typing import Any

from fastvid.command import UserError


def check_push(name: str) -> None:
    """Raise UserError unless a repository may have this name, and there is a token to write with: before any work.

    Args:
        name: ``USER/NAME``.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"--push {name}: {' '.join(str(error).split())}") from error
    if name.count("/") != 1:
        raise UserError(f"--push {name}: give USER/NAME, such as ada/my-encoder")
    if not get_token():
        raise UserError("--push needs a token that may write: log in with `hf auth login`, or set HF_TOKEN")


def is_hub_name(name: str) -> bool:
    """Return whether a model's name is one of the hub, and no folder of this machine, which would say nothing
    elsewhere."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def push(folder: Path, name: str, *, private: bool = False) -> str:
    """Upload a folder's files in one commit, to a repository that is made if it is not there.

    Args:
        folder: what to upload.
        name: ``USER/NAME``.
        private: of a new repository, whether only its owner sees it.

    Returns:
        The repository's URL.

    Raises:
        UserError: the hub refuses it, or does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    kinds: Any = HfHubHTTPError.__bases__  # OSError, and the errors of the library that sends requests, by its version
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        repository = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message="Export of a fastvid model")
    except kinds as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{folder} is written, but cannot be pushed to {name}: {said}") from error
    return str(repository.url)
