"""Real weights from the Hugging Face hub, at one commit.

They are downloaded before anything is launched, in a process of its own with a deadline of its own, so that no launch
waits for a network. An engine gets the folder that they lie in.

Run as `python -m hybrid_ops.models.hub REPOSITORY COMMIT` it downloads them and prints the folder.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hybrid_ops.errors import InputError

OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.msgpack", "*.h5", "original/*", "consolidated*")
"""The same weights in forms that are not read where there are safetensors."""
WEIGHTS = (".safetensors", ".bin")


def weights_folder(repository: str, revision: str) -> str:
    """Where downloaded weights lie. Raises InputError for weights that are not here."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        # What a download left out is not missing.
        left_out = list(OTHER_FORMATS)
        return snapshot_download(repository, revision=revision, local_files_only=True, ignore_patterns=left_out)
    except LocalEntryNotFoundError:
        raise InputError(f"{repository} at {revision} is not in the cache of the hub on this machine") from None


def download_weights(repository: str, revision: str, deadline_seconds: float) -> str | None:
    """Download weights that are not here yet. Returns why they could not be had, or None."""
    command = [sys.executable, "-m", __name__, repository, revision]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"{repository} at {revision} was not downloaded within {deadline_seconds:.0f} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return f"{repository} at {revision} cannot be downloaded: {lines[-1]}"


def main() -> None:
    repository, revision = sys.argv[1:]
    try:
        folder = weights_folder(repository, revision)
    except InputError:
        folder = ""
    if folder and any(path.suffix in WEIGHTS for path in Path(folder).iterdir()):
        print(folder)
        return
    from huggingface_hub import HfApi, snapshot_download

    names = HfApi().list_repo_files(repository, revision=revision)
    ignored = OTHER_FORMATS if any(name.endswith(".safetensors") for name in names) else ()
    print(snapshot_download(repository, revision=revision, ignore_patterns=list(ignored)))


if __name__ == "__main__":
    main()
