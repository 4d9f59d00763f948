"""Other people's mounts of an S3 bucket: rclone and s3fs, each as it comes and with its cache."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cachefs.benchmarks.nginx import BUCKET

_RCLONE_CACHE = ("--vfs-cache-mode=full", "--cache-dir={cache}")
_S3FS_CACHE = ("use_cache={cache}", "parallel_count=8,multipart_size=16")


@dataclass(frozen=True, slots=True)
class Rival:
    """One program in one configuration."""

    program: str
    variant: str
    words: tuple[str, ...]
    """The command; ``{}`` stands for the mount point."""
    cache: Path
    """Where it keeps what it has read, if it does."""

    @property
    def name(self) -> str:
        """What the rows call it."""
        return f"{self.program}, {self.variant}"

    def forget(self) -> None:
        """Empty its cache."""
        shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir(parents=True)


def rivals(endpoint: str, folder: Path) -> list[Rival]:
    """Return the rivals that mount the bucket of an S3 server; their caches are in ``folder``."""
    return [
        *_each("rclone", folder, _rclone(endpoint), _RCLONE_CACHE),
        *_each("s3fs", folder, _s3fs(endpoint), [f"-o{word}" for word in _S3FS_CACHE]),
    ]


def _each(program: str, folder: Path, words: Sequence[str], further: Sequence[str]) -> list[Rival]:
    """Return a program as it comes, and with a cache of its own."""
    cache = folder / f"{program}-cache"
    cached = [word.replace("{cache}", str(cache)) for word in further]
    return [
        Rival(program, "defaults", tuple(words), cache),
        Rival(program, "own cache", (*words, *cached), cache),
    ]


def _rclone(endpoint: str) -> list[str]:
    remote = f":s3:{BUCKET}"
    options = ("--s3-provider=Other", "--s3-force-path-style", "--s3-region=us-east-1")
    return ["rclone", "mount", remote, "{}", "--read-only", f"--s3-endpoint={endpoint}", *options]


def _s3fs(endpoint: str) -> list[str]:
    options = f"url={endpoint},use_path_request_style,public_bucket=1,ro"
    return ["s3fs", BUCKET, "{}", "-f", "-o", options]
