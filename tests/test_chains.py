"""Chains that do not fit, and checkpoints that are damaged, hostile or of another version.

The chains are those of `benchmarks/stress_chains.py`, a few of each kind.
"""

from __future__ import annotations

import collections
import io
import json
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import stress_chains
from benchmarks.stress_chains import Cell, Done, note, table, unlike_a_sentence
from de3dgan.base.errors import UserError
from de3dgan.base.files import differences
from de3dgan.eeg.montage import DEAP_CHANNELS
from de3dgan.training import checkpoints
from models import Generator, SASTNet
from tests.conftest import ROOT, run_stage
from tests.helpers import one_line

CH_NAMES = DEAP_CHANNELS[:4]
#: The same folder for all examples, as each writes it anew.
EXAMPLES = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# --- chains


@pytest.mark.parametrize(
    ("method", "variants"), [("spectral", ("fold", "width")), ("published", ("store", "seed"))]
)
def test_a_chain_that_does_not_fit_is_refused(method, variants):
    rows = stress_chains.run(1, (method,), variants, limit=1)
    for row in rows:
        assert row["tried"] == row["refused"] + row["allowed"] == 1, (row["kind"], row["why"])
    assert len(rows) == 33
    assert f"| all | {len(rows)} |" in "\n".join(table(rows))


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


def of_another_band(content: dict[str, Any]) -> None:
    content["de_scaler"]["mean"][2] += 0.01


def trains_on_a_test_trial(content: dict[str, Any]) -> None:
    content["trials"]["train"].append(content["trials"]["test"].pop())


def saw_a_test_trial(content: dict[str, Any]) -> None:
    content["seen"]["generator"][:] = True


def saw_nothing(content: dict[str, Any]) -> None:
    content["seen"]["EEG scaler"][:] = False


def saw_another_store(content: dict[str, Any]) -> None:
    content["seen"]["critic"] = torch.ones(7, dtype=torch.bool)


def forgets_its_critic(content: dict[str, Any]) -> None:
    del content["seen"]["critic"]


@pytest.mark.parametrize(
    ("stage", "change", "said"),
    [
        ("gan", louder, r"frames it saw: eeg_scaler.std \(14\.\d+ there, 9\.\d+ now\)"),
        ("classifier", louder, r"frames it saw: eeg_scaler.std \(14\.\d+ there, 9\.\d+ now\)"),
        ("gan", of_another_band, r"DE statistics is not that of the frames it saw: de_scaler.mean"),
        ("gan", trains_on_a_test_trial, r'differs in trials.\d+ \("train" there, "test" now\)'),
        ("classifier", trains_on_a_test_trial, r'trials.\d+ \("train" there, "test" now\)'),
        ("gan", saw_a_test_trial, r"its generator saw 72 of the 72 frames to test on"),
        ("gan", saw_nothing, r"its EEG scaler saw no frame"),
        ("gan", saw_another_store, r"seen.critic has 7 frames, .*the store 336"),
        ("gan", forgets_its_critic, r"seen holds .* and must hold .* and critic and"),
    ],
)
def test_what_a_checkpoint_says_of_its_data_must_be_so(
    stage, change, said, home, little_store, tmp_path
):
    fold = shutil.copytree(home, tmp_path / "runs" / home.relative_to(home.parents[2]))
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
    ("done", "names", "wrong"),
    [
        (Done(2, "Error: x.pt differs in fold (1 there, 0 now): do it.\n"), ("fold",), False),
        (Done(2, "bar 1 step/s\rError: fold (1 there, 0 now): do.\n"), (), False),
        (Done(2, "Error: x.pt differs in fold (1 there, 1 now): do it.\n"), ("fold",), True),
        (Done(2, "Error: x.pt differs in fold (1 there, 0 now): do it.\n"), ("seed",), True),
        (Done(2, "Error: x.pt is foreign.\n"), (), True),
        (Done(1, "Error: x.pt differs in fold (1 there, 0 now): do it.\n"), ("fold",), True),
        (Done(2, "Error: fold (1 there, 0 now)\nand more\n"), ("fold",), True),
        (Done(2, "Traceback: fold (1 there, 0 now)\n"), ("fold",), True),
    ],
)
def test_the_benchmark_knows_a_sentence_of_two_sides(done, names, wrong):
    assert bool(unlike_a_sentence(done, names)) == wrong


def test_the_benchmark_counts():
    rows: dict[str, dict[str, Any]] = {}
    cell = Cell("kind", "what", lambda runs: None, "x.py", {}, allowed="reason")
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


# --- model.pt: fields


def good() -> dict[str, Any]:
    """Return the content of a small `model.pt`, of a published classifier."""
    torch.manual_seed(0)
    net = SASTNet(CH_NAMES, widths=(4,) * 5, n_features=4)
    return {
        "stage": "classifier",
        "settings": {
            "task": "valence",
            "ratings": ["valence"],
            "protocol": "trial",
            "fold": 0,
            "seed": 520,
            "method": "published",
            "widths": [4] * 5,
            "dropout": 0.5,
        },
        "store_hash": "ab" * 32,
        "split_fingerprint": "cd" * 8,
        "upstream": {},
        "trials": {"train": [0, 1], "val": [2], "test": [3]},
        "best_epoch": 0,
        "seen": {"classifier": torch.ones(8, dtype=torch.bool)},
        **checkpoints.module_content(net),
        "eeg_scaler": {"low": -2.0, "high": 2.0, "mean": 0.0, "std": 1.0},
    }


def changed(field: str, change: Callable[[Any], Any] | None) -> dict[str, Any]:
    """Return `good` with another value at a dotted field, or without it."""
    content = inside = good()
    *way, last = field.split("/")
    for key in way:
        inside = inside[key]
    if change is None:
        del inside[last]
    else:
        inside[last] = change(inside.get(last))
    return content


def refused(path: Path, content: dict[str, Any] | None = None, stage: str = "classifier") -> str:
    """Return the sentence by which a `model.pt` is refused."""
    if content is not None:
        checkpoints.save(path, content)
    with pytest.raises(UserError) as error:
        checkpoints.load_model(path, stage, "make it again.")
    message = one_line(error)
    assert path.name in message and message.endswith("make it again.") and len(message) < 500
    return message


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "model.pt"


def test_a_good_checkpoint_is_read(path):
    content = good()
    checkpoints.save(path, content)
    found = checkpoints.load_model(path, "classifier", "")
    assert found.keys() == {*content, "format"}
    again = path.read_bytes()
    checkpoints.save(path, found)
    assert path.read_bytes() == again


REQUIRED = (
    *("stage", "settings", "store_hash", "split_fingerprint", "upstream", "trials", "best_epoch"),
    *("seen", "module", "arguments", "weights", "settings/task", "settings/protocol"),
    *("settings/fold", "settings/seed", "settings/ratings", "settings/method", "trials/train"),
    *("trials/val", "trials/test", "arguments/ch_names", "eeg_scaler"),
)


@pytest.mark.parametrize("field", REQUIRED)
@pytest.mark.parametrize("change", [None, lambda _: None, lambda _: torch.zeros(2, 2)])
def test_a_field_that_is_missing_or_wrong_is_named(field, change, path):
    name = field.replace("/", ".")
    message = refused(path, changed(field, change))
    # Settings are such as JSON holds: a tensor within makes them wrong as a whole.
    assert name in message or (field.startswith("settings/") and "settings is" in message)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("stage", "gan", "is of the gan stage, not of classifier"),
        ("stage", "a\nb", "stage"),
        ("best_epoch", -1, "best_epoch is -1"),
        ("best_epoch", True, "best_epoch is true"),
        ("settings/ratings", [], "settings.ratings"),
        ("settings/ratings", ["x"] * 50, "settings.ratings"),
        ("settings/method", "spectral", "SpectralSASTNet"),
        ("trials/train", [0, -1], "trials.train"),
        ("trials/train", [0.5], "trials.train"),
        ("seen/classifier", torch.zeros(8), "seen.classifier"),
        ("seen/classifier", torch.zeros(2, 4, dtype=torch.bool), "seen.classifier"),
        ("module", "blocks", 'module is "blocks", and must be one of SASTNet'),
        ("module", "os", 'module is "os"'),
        ("module", "__builtins__", "module"),
        ("module", "Generator", "module"),
        ("module", "SpectralSASTNet", "module"),
        ("arguments/ch_names", ["XX", "F3", "F4", "O1"], "no SASTNet with its arguments"),
        ("arguments/frame", 64, "arguments.frame is 64, and must be one of 128"),
        ("arguments/n_classes", 4, "arguments.n_classes is 4, and by its settings it is 2"),
        ("arguments/widths", [5] * 5, "and by its settings it is [4, 4, 4, 4, 4]"),
        ("arguments/dropout", 2.0, "arguments.dropout is 2.0"),
        ("arguments/n_features", 5, "its weight feature.1.weight is float32 of shape (4, 288)"),
        ("arguments/n_features", 10**15, "arguments.n_features"),
        ("arguments/n_features", float("nan"), "arguments.n_features"),
        ("arguments/extra", 1, "its arguments are ch_names dropout extra"),
        ("weights/head.bias", torch.tensor([0.0, float("nan")]), "weights.head.bias"),
        ("weights/head.bias", torch.tensor([0.0, float("inf")]), "weights.head.bias"),
        ("weights/head.bias", torch.zeros(2, dtype=torch.float64), "float64 of shape (2,)"),
        ("weights/head.bias", torch.zeros(3), "head.bias is float32 of shape (3,)"),
        ("weights/head.bias", 1.0, "weights.head.bias"),
        ("weights/extra", torch.zeros(3), "its weight extra is"),
        ("eeg_scaler/std", 0.0, "eeg_scaler.std is 0.0, and must be a number above 0"),
        ("eeg_scaler/mean", [0.0] * 4, "eeg_scaler.mean"),
        ("eeg_scaler/mean", float("nan"), "eeg_scaler.mean"),
        ("eeg_scaler/other", 1.0, "eeg_scaler"),
        ("de_scaler", {k: [1.0] * 4 for k in ("low", "high", "mean", "std")}, "it has a de_scaler"),
    ],
)
def test_a_value_that_cannot_be_is_named(field, value, said, path):
    assert said in refused(path, changed(field, lambda _: value))


def test_a_weight_that_is_missing_is_named(path):
    message = refused(path, changed("weights/head.bias", None))
    assert "its weight head.bias is missing" in message
    assert "float32 of shape (2,)" in message


def test_the_statistics_of_a_generator_are_one_per_band(path):
    net = Generator(CH_NAMES, widths=(4,) * 4)
    content = {**good(), "stage": "gan", **checkpoints.module_content(net)}
    content["settings"] = {**content["settings"], "widths": [4] * 4}
    per_band = {name: [1.0] * 4 for name in ("low", "high", "mean", "std")}
    assert "it has no de_scaler" in refused(path, content, "gan")
    checkpoints.save(path, {**content, "de_scaler": per_band})
    checkpoints.load_model(path, "gan", "")
    content["de_scaler"] = {**per_band, "std": [1.0] * 3}
    assert "de_scaler.std" in refused(path, content, "gan")


def test_a_change_is_named_with_both_hashes(path):
    """Made as one does who knows PyTorch and not this program."""
    checkpoints.save(path, good())
    content = torch.load(path)
    content["weights"]["head.bias"] += 1e-6
    content["trials"]["test"].append(4)
    content["note"] = "mine"
    torch.save(content, path)
    message = refused(path)
    assert "has been changed since it was saved" in message
    for field in ("weights", "trials", "note (null there"):
        assert field in message
    assert "settings" not in message


# --- formats


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (checkpoints.FORMAT + 1, "of a newer version of this program"),
        (10**30, "of a newer version of this program"),
        (checkpoints.FORMAT - 1, "of an older version of this program"),
        (0, "of an older version of this program"),
    ],
)
def test_another_format_says_so_and_what_to_do(number, said, path):
    torch.save({**good(), "format": number}, path)
    message = refused(path)
    assert f"has checkpoint format {number}, {said}" in message
    assert f"this one reads format {checkpoints.FORMAT}" in message
    assert ("update it, or make it again" in message) == ("newer" in said)


@pytest.mark.parametrize("number", ["3", 3.0, None, True, -1, [3], torch.ones(3), "a\nb"])
def test_a_format_that_is_no_number_is_damage(number, path):
    torch.save({**good(), "format": number}, path)
    assert "damaged or no checkpoint" in refused(path)


def test_hashes_that_are_missing_are_named(path):
    torch.save({"format": checkpoints.FORMAT, **good()}, path)
    assert "hashes is missing" in refused(path)


# --- hostile files


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


def of_dimensions(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save({"format": checkpoints.FORMAT, "x": content}, buffer)
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
    "nested beyond what is saved": lambda: archive(nested(40)),
    "ten to the thirty": lambda: archive(bomb(30)),
    "a cycle": lambda: archive(CYCLE),
    "repeated tensor": lambda: of_dimensions(torch.zeros(1).expand(10**12)),
    "overlapping tensor": lambda: of_dimensions(
        torch.zeros(2000).as_strided((500, 500, 500), (1, 1, 1))
    ),
    "sparse": lambda: of_dimensions(torch.zeros(3, 3).to_sparse()),
    "complex": lambda: of_dimensions(torch.zeros(3, dtype=torch.complex64)),
    "a set": lambda: of_dimensions({1, 2}),
    "a name with a line break": lambda: of_dimensions({"a\nb": 1}),
    "a number as a name": lambda: of_dimensions({0.5: 1}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_one_sentence(kind, path):
    path.write_bytes(HOSTILE[kind]())
    assert "damaged or no checkpoint" in refused(path)


def test_legacy_and_plain_pickles_are_refused(path):
    torch.save(good(), path, _use_new_zipfile_serialization=False)
    assert "damaged or no checkpoint" in refused(path)
    path.write_bytes(pickle.dumps(good()))
    assert "damaged or no checkpoint" in refused(path)


_PROGRAM = """
import json, resource, sys, time
from pathlib import Path
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


def test_nothing_takes_more_memory_than_its_size(tmp_path):
    """Each in MiB over what a good file has needed, and in seconds."""
    checkpoints.save(tmp_path / "good.pt", good())
    names = ["good.pt"]
    for number, make in enumerate(HOSTILE.values()):
        names.append(f"hostile {number}.pt")
        (tmp_path / names[-1]).write_bytes(make())
    for number, (argument, value) in enumerate(
        [("n_features", 2**16), ("widths", [2**16] * 5), ("n_classes", 2**16)]
        + [("widths", [4] * 10**5), ("frame", 2**16), ("ch_names", ["F3"] * 10**5)]
    ):
        content = changed(f"arguments/{argument}", lambda _, value=value: value)
        if argument in content["settings"]:
            content["settings"][argument] = value
        names.append(f"giant {number}.pt")
        checkpoints.save(tmp_path / names[-1], content)
    program = [sys.executable, "-c", _PROGRAM, *(str(tmp_path / name) for name in names)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(names) - 1, done.stderr
    for path, said, mib, seconds in lines:
        assert Path(path).name in said
        assert mib < 150, path  # of which what is compressed here takes most as a file
        assert seconds < 5, path


# --- damage


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory) -> tuple[bytes, dict[str, Any]]:
    """Return a small `model.pt`, and what is in it."""
    path = tmp_path_factory.mktemp("whole") / "model.pt"
    checkpoints.save(path, good())
    return path.read_bytes(), checkpoints.load_model(path, "classifier", "")


def is_whole_or_refused(path: Path, damaged: bytes, content: dict[str, Any]) -> None:
    path.write_bytes(damaged)
    try:
        found = checkpoints.load_model(path, "classifier", "make it again.")
    except UserError as error:
        message = str(error)
        assert "model.pt" in message and "\n" not in message and len(message) < 1000
        return
    assert list(found) == list(content)
    assert stress_chains.same(found, content)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=3), st.data())
@EXAMPLES
def test_flipped_bits_are_noticed(whole_file, tmp_path, flips, data):
    raw, content = whole_file
    start = raw.index(b"PK\x01\x02")  # the names of members, in which most bytes matter
    damaged = bytearray(raw)
    for place, bits in flips:
        low, high = data.draw(st.sampled_from([(0, len(raw)), (0, 4000), (start, len(raw))]))
        damaged[low + int(place * (high - low - 1))] ^= bits
    is_whole_or_refused(tmp_path / "model.pt", bytes(damaged), content)


def test_any_flip_in_the_weights_is_noticed(whole_file, tmp_path):
    """PyTorch itself does not look at checksums."""
    raw, _ = whole_file
    weight = good()["weights"]["head.weight"].numpy().tobytes()
    place = raw.index(weight)
    damaged = bytearray(raw)
    damaged[place + 1] ^= 1
    path = tmp_path / "model.pt"
    path.write_bytes(damaged)
    assert not torch.equal(
        torch.load(path, weights_only=True)["weights"]["head.weight"],
        torch.from_numpy(np.frombuffer(weight, np.float32).reshape(2, 4).copy()),
    )
    assert "weights" in refused(path)


@pytest.mark.filterwarnings("error")
@given(st.floats(0, 1), st.binary(max_size=20))
@EXAMPLES
def test_truncated_and_shifted_files_are_noticed(whole_file, tmp_path, share, extra):
    raw, content = whole_file
    place = int(share * len(raw))
    for damaged in (raw[:place], raw[:place] + extra, raw[:place] + extra + raw[place:]):
        is_whole_or_refused(tmp_path / "model.pt", damaged, content)


@given(st.binary(max_size=300))
@EXAMPLES
def test_any_bytes_and_any_pickle_are_no_checkpoint(tmp_path, content):
    for damaged in (content, archive(content), archive(b"\x80\x02}(" + content)):
        (tmp_path / "model.pt").write_bytes(damaged)
        refused(tmp_path / "model.pt")


# --- state.pt


def state() -> dict[str, Any]:
    """Return the content of a small `state.pt`."""
    weights = {"w": torch.zeros(3)}
    return {
        "of": {"stage": "gan"},
        "spent": {"seconds": 1.0},
        "seen": {"generator": torch.ones(4, dtype=torch.bool)},
        "nets": {"generator": dict(weights)},
        "optimisers": {"generator": {"state": {}, "param_groups": []}},
        "history": [{"epoch": 0, "loss": 1.0}],
        "best": {"epoch": 0, "score": 1.0, "weights": dict(weights)},
        "n_steps": 0,
        "losses": {"counts": {}, "sums": {}},
        "rng": [],
    }


def test_the_fields_of_a_state_are_named(tmp_path):
    path = tmp_path / "state.pt"
    checkpoints.save(path, state())
    assert checkpoints.load_state(path, "")["n_steps"] == 0
    for field in state():
        for content in ({**state(), field: None}, {k: v for k, v in state().items() if k != field}):
            checkpoints.save(path, content)
            with pytest.raises(UserError, match=f"state.pt is damaged: {field} is") as error:
                checkpoints.load_state(path, "begin anew.")
            assert one_line(error).endswith("begin anew.")
    for field, wrong in {"n_steps": -1, "history": [{"loss": float("nan")}]}.items():
        checkpoints.save(path, {**state(), field: wrong})
        with pytest.raises(UserError, match=f"{field}"):
            checkpoints.load_state(path, "begin anew.")


def test_equal_states_have_no_differences():
    assert differences(checkpoints._hashes(state()), checkpoints._hashes(state())) == []
