"""Download a data set that may be passed on, each file checked against its SHA-256.

    python -m de3dgan.data.fetch eegmat

EEGMAT: all 36 people as published at 500 Hz, 186 MB, under the Open Data Commons Attribution
License 1.0 (doi 10.13026/C2JQ1P). What is complete is not loaded again: the same command goes on
after a cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pooch
import requests
from tqdm import tqdm
from tyro.conf import Positional

from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.files import make_folder, write_errors
from de3dgan.base.paths import CODE, ROOT, display_path
from de3dgan.base.programs import COMMANDS, program
from de3dgan.data.sources import eegmat

URL = "https://physionet.org/files/eegmat/1.0.0/"
#: PhysioNet's list of SHA-256 sums, a sum and a name on each line.
SUMS = Path(__file__).with_name("eegmat_sha256.txt")

#: The files of that list that are downloaded; the others describe the set.
_WANTED = re.compile(r"([0-9a-f]{64}) [ *]?(Subject\d\d_[12]\.edf|subject-info\.csv)")
#: Seconds that a server may be silent, and how often a failure is tried again.
_SECONDS = 30
_RETRIES = 2


@dataclass(frozen=True)
class Config:
    """Which data set, from where, and where to."""

    data_set: Positional[Literal["eegmat"]]  # what to download
    out_dir: Path = Path("eeg_dataset/EEGMAT-36")  # folder of the recordings, made if need be
    url: str = URL  # folder on a server; a mirror's must hold the same files
    sums: Path = SUMS  # list of SHA-256 sums to check against, as PhysioNet's SHA256SUMS.txt


def main(config: Config) -> None:
    """Download, and say what to do next."""
    n_people = fetch_eegmat(config.out_dir, config.url, config.sums)
    where, preprocess = display_path(config.out_dir), program(CODE / COMMANDS["preprocess"], ROOT)
    print(
        f"{where} holds {n_people} people of EEGMAT. Next: {preprocess} --source eegmat "
        f"--data-dir {where} --out-dir DE_feature/eegmat-36"
    )


def fetch_eegmat(out_dir: Path, url: str = URL, sums: Path = SUMS) -> int:
    """Download the files of EEGMAT that are not in a folder, or differ from their sums there.

    Parameters
    ----------
    out_dir : Path
        The folder.
    url : str
        Where the files lie under their own names.
    sums : Path
        Their SHA-256 sums.

    Returns
    -------
    int
        How many people there are.

    Raises
    ------
    UserError
        If a file cannot be loaded, or is not what its sum says.
    """
    files = {name: digest for digest, name in _WANTED.findall(sums.read_text("utf-8", "replace"))}
    if not any(name.endswith(".edf") for name in files):
        raise UserError(
            f"{display_path(sums)} names no SubjectNN_1.edf: --sums takes a list as PhysioNet's "
            "SHA256SUMS.txt, a sum and a name on each line."
        )
    if Path(out_dir).resolve() == (CODE / eegmat.DEFAULT_DIR):
        raise UserError(
            f"{display_path(out_dir)} holds the people that come with the repository, at 128 Hz, "
            "which would be replaced: choose another --out-dir."
        )
    make_folder(out_dir)
    pooch.get_logger().setLevel("WARNING")
    server = pooch.create(out_dir, f"{url.rstrip('/')}/", registry=files, retry_if_failed=_RETRIES)
    loader = pooch.HTTPDownloader(timeout=_SECONDS)
    for name in tqdm(sorted(files), unit="file", desc="EEGMAT"):
        with write_errors(Path(out_dir, name)):
            try:
                server.fetch(name, downloader=loader)
            except requests.RequestException as error:
                raise UserError(
                    f"Cannot load {name} from {url} ({_reason(error)}): see that this machine "
                    "reaches that server, or give another one as --url, and run the same command "
                    "again, which keeps what is complete."
                ) from None
            except ValueError:  # so pooch says that a sum is wrong
                raise UserError(
                    f"{name} from {url} has not the SHA-256 that {display_path(sums)} lists: try "
                    "another server (--url), or, if the set was revised, give its publisher's new "
                    "SHA256SUMS.txt as --sums."
                ) from None
    return len({name[:9] for name in files if name.endswith(".edf")})


def _reason(error: requests.RequestException) -> str:
    """Return why a file could not be loaded, in a few words."""
    if error.response is not None:
        return f"the server says {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {_SECONDS} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__


if __name__ == "__main__":
    command_line(main, Config)
