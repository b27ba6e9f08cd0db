"""Chains that do not fit, and checkpoints that are damaged, hostile or of another version.

The chains are those of `benchmarks/stress_chains.py`, a few of each kind.
"""

from __future__ import annotations

import collections
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import stress_chains
from benchmarks.stress_chains import Cell, note, table, unlike_a_sentence
from de3dgan.base.errors import UserError
from de3dgan.eeg.montage import DEAP_CHANNELS
from de3dgan.models import SASTNet
from de3dgan.stages import augmentation
from de3dgan.training import checkpoints
from tests.conftest import ROOT, run_stage
from tests.helpers import one_line, stopped_after_one_step

CH_NAMES = DEAP_CHANNELS[:4]
#: The same folder for all examples, as each writes it anew.
EXAMPLES = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


# --- chains


def assert_every_kind_is_refused(n_kinds: int, *args: Any, **kwargs: Any) -> None:
    rows = stress_chains.run(1, *args, limit=1, **kwargs)
    for row in rows:
        assert row["tried"] == row["refused"] + row["allowed"] == 1, (row["kind"], row["why"])
    assert len(rows) == n_kinds
    assert f"| all | {len(rows)} |" in "\n".join(table(rows))


def test_a_chain_that_does_not_fit_is_refused():
    assert_every_kind_is_refused(24, ("published",), ("store",), pairs=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "variants"), [("spectral", ("fold", "width")), ("published", ("store", "seed"))]
)
def test_a_chain_of_two_differences_is_refused(method, variants):
    assert_every_kind_is_refused(28, (method,), variants)


@pytest.fixture
def fold(home, tmp_path) -> Path:
    """Return a copy of `home`."""
    return shutil.copytree(home, tmp_path / "runs" / home.relative_to(home.parents[2]))


@pytest.fixture(scope="module")
def home(little_store, tmp_path_factory) -> Path:
    """Return a published fold with a generator and a classifier, of an epoch each."""
    runs = tmp_path_factory.mktemp("home") / "runs"
    with stress_chains.quick():
        for stage in ("gan", "classifier"):
            fold = run_stage(stage, little_store, runs, "published", epochs=1).parent
    return fold


def louder(content: dict[str, Any]) -> None:
    content["eeg_scaler"]["std"] *= 1.5


def train_on_a_test_trial(content: dict[str, Any]) -> None:
    content["trials"]["train"].append(content["trials"]["test"].pop())


@pytest.mark.parametrize(
    ("stage", "change", "said"),
    [
        ("gan", louder, r"frames it saw: eeg_scaler.std \(14\.\d+ there, 9\.\d+ now\)"),
        ("classifier", louder, r"frames it saw: eeg_scaler.std \(14\.\d+ there, 9\.\d+ now\)"),
        (
            "gan",
            lambda c: c["de_scaler"].update(mean=[0.0] * len(c["de_scaler"]["mean"])),
            r"DE statistics is not that of the frames it saw: de_scaler.mean",
        ),
        ("gan", train_on_a_test_trial, r'differs in trials.\d+ \("train" there, "test" now\)'),
        ("classifier", train_on_a_test_trial, r'trials.\d+ \("train" there, "test" now\)'),
        (
            "gan",
            lambda c: c["seen"]["generator"].fill_(True),
            r"its generator saw 72 of the 72 frames to test on",
        ),
        (
            "gan",
            lambda c: c["seen"]["EEG scaler"].fill_(False),
            r"its EEG scaler saw no frame",
        ),
        (
            "gan",
            lambda c: c["seen"].update(critic=torch.ones(7, dtype=torch.bool)),
            r"seen.critic has 7 frames, .*the store 336",
        ),
        (
            "gan",
            lambda c: c["seen"].pop("critic"),
            r"seen holds .* and must hold .* and critic and",
        ),
    ],
)
def test_what_a_checkpoint_says_of_its_data_must_be_so(
    stage, change, said, fold, little_store, tmp_path
):
    path = fold / stage / "model.pt"
    content = checkpoints.load(path, "")
    change(content)
    checkpoints.save(path, content)
    with pytest.raises(UserError, match=said) as error:
        run_stage("finetune", little_store, tmp_path / "runs", "published", epochs=1)
    message = one_line(error)
    assert f"{stage}/model.pt is not of this run's split" in message
    assert "make the right one with: python" in message and message.endswith("--restart")
    assert not (fold / "finetune").exists()


def test_every_difference_is_in_the_matrix(tmp_path):
    stores = collections.defaultdict(lambda: tmp_path)
    names = {variant.name for variant in stress_chains.foreign("published", stores, 0)}
    assert names == {
        *("store", "electrodes", "order of electrodes", "protocol", "leaky protocol", "fold"),
        *("task", "task of the same labels", "ratings", "threshold", "seed", "method", "width"),
        *("features", "learning rate", "epochs", "class names"),
    }


@pytest.mark.parametrize(
    ("said", "names", "wrong"),
    [
        ("x.pt differs in fold (1 there, 0 now): do it.", ("fold",), False),
        ("x.pt differs in fold (1 there, 1 now): do it.", ("fold",), True),
        ("x.pt differs in fold (1 there, 0 now): do it.", ("seed",), True),
        ("x.pt is foreign.", (), True),
        ("fold (1 there, 0 now)\nand more", ("fold",), True),
    ],
)
def test_the_benchmark_knows_a_sentence_of_two_sides(said, names, wrong):
    assert bool(unlike_a_sentence(said, names)) == wrong


def test_the_benchmark_counts():
    rows: dict[str, dict[str, Any]] = {}
    cell = Cell("kind", "what", [], "x.py", {}, allowed="reason")
    for outcome in ("refused", "allowed", "accepted wrongly: it ran", "badly refused: it wrote"):
        note(rows, cell, "what", outcome)
    lines = table(list(rows.values()))
    assert lines[-5:] == [
        "| all | 4 | 1 | 1 | 1 | 1 |",
        "",
        "- kind: allowed: reason",
        "- kind: accepted wrongly: what: it ran",
        "- kind: badly refused: what: it wrote",
    ]


# --- model.pt


def good() -> dict[str, Any]:
    """Return the content of a small `model.pt`, of a published classifier."""
    torch.manual_seed(0)
    net = SASTNet(CH_NAMES, widths=(4,) * 5, n_features=4)
    return {
        "stage": "classifier",
        "seen": {"classifier": torch.ones(8, dtype=torch.bool)},
        **checkpoints.module_content(net),
        "eeg_scaler": {"low": -2.0, "high": 2.0, "mean": 0.0, "std": 1.0},
    }


def changed(name: str, **changes: Any) -> dict[str, Any]:
    """Return `good` with other values in one of its objects; None takes one out."""
    content = good()
    content[name] = {k: v for k, v in {**content[name], **changes}.items() if v is not None}
    return content


def write_sealed(path: Path, raw: bytes) -> None:
    """Write any bytes as `checkpoints.save` does what PyTorch gives it: with the right hash."""
    with mock.patch.object(torch, "save", lambda content, buffer: buffer.write(raw)):
        checkpoints.save(path, {})


def refused(path: Path, content: dict[str, Any] | None = None) -> str:
    """Return the sentence by which a `model.pt` is refused."""
    if content is not None:
        checkpoints.save(path, content)
    with pytest.raises(UserError) as error:
        checkpoints.load_model(path, "classifier", "make it again.")
    message = one_line(error)
    assert path.name in message and message.endswith("make it again.") and len(message) < 500
    return message


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "model.pt"


def test_a_good_checkpoint_is_read_and_gives_the_same_bytes(path):
    content = good()
    checkpoints.save(path, content)
    found = checkpoints.load_model(path, "classifier", "")
    assert list(found) == list(content)
    assert stress_chains.same(found, content)
    again = path.read_bytes()
    checkpoints.save(path, found)
    assert path.read_bytes() == again
    # It is still what PyTorch and ZIP programs take it for.
    assert stress_chains.same(torch.load(path), content)
    assert zipfile.ZipFile(path).testzip() is None


def test_what_pytorch_itself_saved_is_refused_with_both_hashes(path):
    checkpoints.save(path, good())
    torch.save(torch.load(path), path)
    assert re.search(r"its SHA-256 \(none there, [0-9a-f]{16} now\)", refused(path))


def test_any_flip_in_the_weights_is_noticed(path):
    """PyTorch itself does not look at checksums."""
    content = good()
    checkpoints.save(path, content)
    raw = bytearray(path.read_bytes())
    raw[raw.index(content["weights"]["head.weight"].numpy().tobytes()) + 1] ^= 1
    path.write_bytes(raw)
    weights = torch.load(path, weights_only=True)["weights"]["head.weight"]
    assert not torch.equal(weights, content["weights"]["head.weight"])
    assert re.search(r"SHA-256 \((\w{16}) there, (?!\1)\w{16} now\)", refused(path))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (checkpoints.FORMAT + 1, "of a newer version of this program"),
        (checkpoints.FORMAT - 1, "of an older version of this program"),
        (0, "of an older version of this program"),
    ],
)
def test_another_format_says_so_and_what_to_do(number, said, path):
    with mock.patch.object(checkpoints, "FORMAT", number):
        checkpoints.save(path, good())
    message = refused(path)
    assert f"has checkpoint format {number}, {said}" in message
    assert f"this one reads format {checkpoints.FORMAT}" in message
    assert ("update it, or make it again" in message) == ("newer" in said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({**good(), "stage": "gan"}, "is of the gan stage, not of classifier"),
        ({**good(), "module": "blocks"}, "damaged"),
        ({**good(), "module": "Generator"}, "damaged"),
        (changed("arguments", ch_names=["F3", "F4", "O1"]), "damaged"),
        (changed("arguments", n_classes=4), r"size mismatch for head.bias: .*\[2\].*\[4\]"),
        (changed("arguments", n_features=5), "not those of the network that it says it holds"),
        (changed("arguments", extra=1), "damaged"),
        (changed("weights", **{"head.bias": None}), "Missing key.* head.bias"),
        (changed("weights", **{"extra": torch.zeros(3)}), "Unexpected key.* extra"),
        (changed("weights", **{"head.bias": torch.zeros(1).expand(2)}), "damaged"),
        (changed("weights", **{"head.bias": 1.0}), "damaged"),
        ({"stage": "classifier"}, "damaged"),
        ({}, "damaged"),
    ],
)
def test_weights_must_be_those_of_the_network(content, said, path):
    assert re.search(said, refused(path, content).replace('"', "")), said


# --- hostile files: each has the right hash


def archive(pickled: bytes, compress: int = zipfile.ZIP_STORED, name: str = "data.pkl") -> bytes:
    """Return a checkpoint with another pickle in it."""
    buffer, out = io.BytesIO(), io.BytesIO()
    torch.save({"x": torch.zeros(3)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(out, "w", compress) as new:
        for member in old.namelist():
            if member.endswith("data.pkl"):
                new.writestr(member.replace("data.pkl", name), pickled)
            else:
                new.writestr(member, old.read(member))
    return out.getvalue()


def calling(module: str, name: str, argument: int) -> bytes:
    """Return a pickle that calls something with a number."""
    number = b"J" + struct.pack("<i", argument)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + number + b"\x85R."


def nested(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def bomb(levels: int) -> bytes:
    """Return a pickle of lists that hold another ten times, and so on: ten to `levels` places."""
    lists = [f"]q{chr(i)}(" + 10 * f"h{chr(i - 1)}" + "e" for i in range(1, levels)]
    return b"\x80\x02]q\x00" + "".join(lists).encode("latin1") + b"."


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def legacy_before_archive() -> bytes:
    """Return what is an archive to those who look at its end, and else a pickle that grows."""
    buffer = io.BytesIO()
    torch.save({}, buffer, _use_new_zipfile_serialization=False)
    head = buffer.getvalue()
    magic = head[: head.index(b".") + 1]  # of the old format, before its pickles
    return magic + calling("builtins", "bytearray", 2**31 - 1) + archive(b"\x80\x02}.")


CYCLE = b"\x80\x02}q\x00X\x01\x00\x00\x00xh\x00s."
HOSTILE = {
    "bytes by the gigabyte": lambda: archive(calling("builtins", "bytearray", 2**31 - 1)),
    "under another name": lambda: archive(
        calling("builtins", "bytearray", 2**31 - 1), name="DATA.PKL"
    ),
    "before an archive": legacy_before_archive,
    "a tensor of a number": lambda: archive(calling("torch", "FloatTensor", 2**31 - 1)),
    "code": lambda: archive(calling("os", "abort", 0)),
    "code of PyTorch": lambda: archive(calling("torch.hub", "load", 0)),
    "compressed": lambda: archive(b"\x80\x02X" + struct.pack("<I", 10**8) + b"a" * 10**8 + b".", 8),
    "deeply nested": lambda: archive(nested(100_000)),
    "ten to the thirty": lambda: archive(bomb(30)),
    "a cycle": lambda: archive(CYCLE),
    "repeated tensor": lambda: saved(changed("weights", x=torch.zeros(1).expand(10**12))),
    "overlapping tensor": lambda: saved(
        changed("weights", x=torch.zeros(2000).as_strided((500, 500, 500), (1, 1, 1)))
    ),
    "sparse": lambda: saved(changed("weights", x=torch.zeros(3, 3).to_sparse())),
    **{
        f"giant {name}": lambda name=name, value=value: saved(changed("arguments", **{name: value}))
        for name, value in {
            "n_features": 2**40,
            "widths": [2**16] * 5,
            "n_classes": 2**30,
            "ch_names": ["F3"] * 10**5,
        }.items()
    },
}

_PROGRAM = """
import json, resource, sys, time
from pathlib import Path
from de3dgan.stages import augmentation
from de3dgan.training import checkpoints
from de3dgan.base.errors import UserError

def peak():
    unit = 2 ** (20 if sys.platform == "darwin" else 10)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

checkpoints.load_model(Path(sys.argv[1]), "classifier", "")
for path in sys.argv[2:]:
    before, start, said = peak(), time.monotonic(), "nothing"
    try:
        checkpoints.load_model(Path(path), "classifier", "make it again.")
    except UserError as error:
        said = str(error)
    print(json.dumps([path, said, peak() - before, time.monotonic() - start]))
"""


def test_a_hostile_file_is_one_sentence_and_takes_little_memory(tmp_path):
    """Each in MiB over what a good file has needed, and in seconds."""
    checkpoints.save(tmp_path / "good.pt", good())
    names = ["good.pt"]
    for kind, make in HOSTILE.items():
        names.append(f"{kind}.pt")
        write_sealed(tmp_path / names[-1], make())
    program = [sys.executable, "-c", _PROGRAM, *(str(tmp_path / name) for name in names)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(names) - 1, done.stderr
    for name, said, mib, seconds in lines:
        assert Path(name).name in said and "damaged" in said, said
        assert "\n" not in said and len(said) < 500, said
        assert mib < 100, name
        assert seconds < 5, name


# --- damage


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory) -> bytes:
    """Return a small `model.pt`."""
    path = tmp_path_factory.mktemp("whole") / "model.pt"
    checkpoints.save(path, good())
    return path.read_bytes()


@given(st.floats(0, 1), st.integers(1, 255))
@EXAMPLES
def test_flipped_bits_are_noticed(whole_file, tmp_path, place, bits):
    damaged = bytearray(whole_file)
    damaged[int(place * (len(damaged) - 1))] ^= bits
    (tmp_path / "model.pt").write_bytes(damaged)
    refused(tmp_path / "model.pt")


@given(st.floats(0, 0.999), st.binary(max_size=20))
@EXAMPLES
def test_truncated_and_shifted_files_are_noticed(whole_file, tmp_path, share, extra):
    place = int(share * len(whole_file))
    start, rest = whole_file[:place], whole_file[place:]
    for damaged in (start, start + extra + b"x" + rest, rest + extra if place else b""):
        (tmp_path / "model.pt").write_bytes(damaged)
        refused(tmp_path / "model.pt")


@given(st.binary(max_size=300))
@EXAMPLES
def test_any_bytes_and_any_pickle_are_no_checkpoint(tmp_path, content):
    path = tmp_path / "model.pt"
    for damaged in (archive(content), archive(b"\x80\x02}(" + content)):
        write_sealed(path, damaged)
        refused(path)
    path.write_bytes(content)
    refused(path)


# --- state.pt


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("nets"),
        lambda state: state["nets"]["generator"].popitem(),
        lambda state: state.update(n_steps=1, rng=[]),
    ],
    ids=["no networks", "another network", "steps but no random numbers"],
)
def test_a_state_that_does_not_fit_is_a_sentence(change, fold, little_store, tmp_path):
    (fold / "gan" / "result.json").unlink()
    path = fold / "gan" / "state.pt"
    state = checkpoints.load(path, "")
    change(state)
    checkpoints.save(path, state)
    with pytest.raises(UserError, match=r"gan/state.pt is damaged.*begin anew with: python"):
        run_stage("gan", little_store, tmp_path / "runs", "published", epochs=1)


def test_a_damaged_state_is_known_before_anything_long(fold, little_store, tmp_path, monkeypatch):
    place = ("finetune", little_store, tmp_path / "runs", "published")
    with stress_chains.quick(), stopped_after_one_step():
        run_stage(*place, epochs=1)
    path = fold / "finetune" / "state.pt"
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(augmentation, "paired_eeg", None)
    with pytest.raises(UserError, match=r"finetune/state.pt is damaged.*begin anew with: python"):
        run_stage(*place, epochs=1)
