"""The repository itself: copies that agree, documented names, declared imports."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from de3dgan.base.recipe import load_script
from tests.conftest import FOLDERS, ROOT, STAGES, script_of

#: What an import is called by pip, where the names differ.
PIP_NAMES = {"sklearn": "scikit-learn", "mne_bids": "mne-bids"}
#: Requirements that nothing here imports, and who needs them.
INDIRECT = {
    "ruff": "make lint",
    "pytest-xdist": "pytest -n, in make test",
    "pytest-cov": "pytest --cov, in make test",
    "snakemake": "make study",
    "hatchling": "pip install .",
    "furo": "make site",
    "myst-parser": "make site",
    "ipykernel": "notebooks",
}
#: What is imported within functions only, if it is there: networks of others, with what they need,
#: the Hub, and tables beside MNE's epochs.
OPTIONAL = {"braindecode", "torchaudio", "huggingface_hub", "safetensors", "pandas"}
#: The rooms of the package, from the top floor of imports down: each uses those before it only.
#: `de3dgan.models` lies beside the package, in `models/`; it uses `base` and `eeg`.
ROOMS = "base eeg models data training evaluation stages figures reporting parts".split()
#: What a bare GPU node need not be able to import: it neither preprocesses, nor draws, nor reports.
NOT_CORE = {
    *("de3dgan/base/cli.py", "de3dgan/data/export.py", "de3dgan/data/preprocessing.py"),
    *(
        "de3dgan/data/fetch.py",
        "de3dgan/data/synthetic.py",
        *(
            f"de3dgan/figures/{name}.py"
            for name in ("card", "grid", "curves", "eeg", "scores", "style", "virtual")
        ),
    ),
}
CORE_PACKAGES = {"torch", "numpy", "scipy", "sklearn", "tqdm"}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


# --- the copies of a stage script


class WithoutValues(ast.NodeTransformer):
    """Replaces values by their kind; names, structure and annotations stay."""

    def visit_Constant(self, node):
        kind = type(node.value).__name__
        return ast.Constant("number" if kind in ("int", "float") else kind)

    def visit_Tuple(self, node):
        if node.elts and all(isinstance(element, ast.Constant) for element in node.elts):
            return ast.Constant("values")  # a tuple of other length is another value
        return self.generic_visit(node)

    def visit_AnnAssign(self, node):
        node.annotation = ast.Constant(f"annotation {ast.unparse(node.annotation)}")
        node.value = self.visit(node.value) if node.value else None
        return node

    def visit_FunctionDef(self, node):
        annotations = [ast.unparse(a.annotation) for a in node.args.args if a.annotation]
        node.name += f" {annotations} {ast.unparse(node.returns) if node.returns else None}"
        return self.generic_visit(node)


def without_values(source: str) -> str:
    return ast.dump(WithoutValues().visit(ast.parse(source)), indent=1)


@pytest.mark.parametrize("stage", STAGES)
def test_the_copies_of_a_stage_differ_in_values_only(stage):
    original = without_values(script_of(stage).read_text())
    for task in FOLDERS:
        assert without_values(script_of(stage, task).read_text()) == original, task


@pytest.mark.parametrize(
    ("old", "new", "alike"),
    [
        ("epochs: int = 8", "epochs: int = 9", True),
        ('ratings: tuple[str, ...] = ("valence",)', 'ratings: tuple[str, ...] = ("a", "b")', True),
        ("epochs: int = 8", "epochs: float = 8", False),
        ("epochs: int = 8", "n_epochs: int = 8", False),
        ('"val_loss", "val_balanced_accuracy"]', '"val_loss"]', False),
        ("class Config(Recipe):", "class Config:", False),
        ("if run.finished:", "if not run.finished:", False),
        ("config.lr", "config.seed", False),
        ("def main(config: Config) -> None:", "def main(config: Config) -> int:", False),
        ("    with Run.open(", "    with Run.close(", False),
        ("    dropout: float = 0.5", "    dropout: float = 0.4", True),  # of Published
        ("    ema_decay: float = 0.0  # the weights of the last step\n", "", False),
        ("class Published(Config):", "class Published:", False),
        ('"published"] = "published"', '"published"] = "spectral"', True),
        ("Config, Published)", "Published, Config)", False),
        ('config.method == "spectral"', 'config.method != "spectral"', False),
        ("AdamW if config.method", "Adam if config.method", False),
    ],
)
def test_that_comparison_tells_values_from_code(old, new, alike):
    source = script_of("classifier").read_text()
    assert old in source
    changed = without_values(source.replace(old, new))
    assert (changed == without_values(source)) == alike


# --- documentation


def public(node: ast.AST, prefix: str = ""):
    """Yield the public classes, functions and methods defined in a module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            if child.name.startswith("_"):
                continue
            yield f"{prefix}{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{prefix}{child.name}.")


@pytest.mark.parametrize(
    "path",
    python_files("de3dgan", "models", "workflow")
    + sorted(path for folder in {*FOLDERS.values()} for path in folder.glob("*.py")),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_everything_public_is_documented(path):
    tree = parse(path)
    assert ast.get_docstring(tree) or path.name == "__init__.py", "the module"
    for name, node in public(tree):
        assert ast.get_docstring(node), name


# --- imports and requirements


def imports(path: Path, everywhere: bool) -> set[str]:
    """Return the dotted names a file imports; not those in functions unless `everywhere`."""
    found = set()

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue  # which is for readers and type checkers, and is not run
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and not child.level:
                found.add(child.module)
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
            if everywhere or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                visit(child)

    visit(parse(path))
    return found


def third_party(names: set[str]) -> set[str]:
    own = {"de3dgan", "tests", "benchmarks", "__future__"}
    return {name.split(".")[0] for name in names} - own - sys.stdlib_module_names


def requirements(name: str = "requirements.txt") -> list[str]:
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("name", [path.name for path in ROOT.glob("requirements*.txt")])
def test_every_requirement_is_pinned_and_says_why(name):
    assert requirements(name)
    for line in requirements(name):
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.+]*\s+# \S.{3,}", line), line


def test_what_is_imported_is_required_and_the_reverse():
    declared = {line.split("==")[0] for line in requirements()}
    own = {path.stem for path in python_files("benchmarks", "workflow")}
    used = set()
    for path in tracked():
        if path.suffix == ".py":
            used |= third_party(imports(path, everywhere=True)) - own
    used = {PIP_NAMES.get(name, name) for name in used}
    assert used - declared == OPTIONAL
    assert declared - used - set(INDIRECT) == set()


def room_of(path: Path) -> str | None:
    """Return the room that a file of the package or of `models` is in."""
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "de3dgan" and len(parts) > 2 else parts[0]


@pytest.mark.parametrize(
    "path", python_files("de3dgan", "models"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_room_uses_the_rooms_above_it_only(path):
    room = room_of(path)
    if room == "de3dgan":  # the package's own __init__
        assert imports(path, everywhere=True) == {"pathlib", "pathlib.Path"}
        return
    above = ROOMS[: ROOMS.index(room) + 1]
    if room == "models":
        above = ["base", "eeg", "models"]
    for name in imports(path, everywhere=True):
        parts = name.split(".")
        assert parts[0] != "models", f"{path.relative_to(ROOT)}: it is de3dgan.models"
        used = parts[1] if parts[0] == "de3dgan" and len(parts) > 1 else None
        assert used is None or used in above, f"{path.relative_to(ROOT)} imports {name}"


def test_every_room_is_a_folder_and_the_reverse():
    folders = {
        path.name for path in (ROOT / "de3dgan").iterdir() if (path / "__init__.py").exists()
    }
    assert folders == set(ROOMS) - {"models"}


def floors() -> dict[Path, int]:
    """Return how deep each module lies: 1 for one that imports no other of ours."""
    below: dict[Path, int] = {}

    def floor(path: Path, trail: tuple[Path, ...] = ()) -> int:
        assert path not in trail, f"{path.relative_to(ROOT)} is imported by what it imports"
        if path not in below:
            files = {file for name in imports(path, everywhere=True) if (file := module_file(name))}
            ours = {f for f in files if f.name != "__init__.py" or room_of(f) not in ROOMS}
            below[path] = 1 + max((floor(f, (*trail, path)) for f in ours - {path}), default=0)
        return below[path]

    for path in python_files("de3dgan", "models"):
        floor(path)
    return below


def test_there_are_few_floors_and_no_circles():
    assert max(floors().values()) <= 10


def core_files() -> list[Path]:
    return [
        path
        for path in python_files("de3dgan", "models")
        if path.parent.name != "sources"
        and room_of(path) != "reporting"
        and str(path.relative_to(ROOT)) not in NOT_CORE
    ]


def module_file(name: str) -> Path | None:
    path = ROOT / name.replace("de3dgan.models", "models").replace(".", "/")
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_training_core_imports_little_directly_or_not(path):
    seen, waiting = set(), [path]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        names = imports(current, everywhere=False)
        outside = third_party(names) - CORE_PACKAGES
        assert not outside, f"{current.relative_to(ROOT)} imports {outside}"
        waiting += [file for name in names if (file := module_file(name))]
    assert len(core_files()) > 15


def test_models_do_no_input_or_output():
    for path in python_files("models"):
        names = {node.id for node in ast.walk(parse(path)) if isinstance(node, ast.Name)}
        assert not {"open", "print", "Path"} & names, path
        assert not {"os", "pathlib"} & {n.split(".")[0] for n in imports(path, everywhere=True)}


# --- the rest


def test_no_file_names_a_place_on_one_machine():
    place = re.compile(
        r"(?<![\w.~-])/(" + "|".join(["work", "tmp", "home", "root", "Users"]) + ")/"
    )
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found = [line for line in text.splitlines() if place.search(line)]
        assert not found, f"{path.relative_to(ROOT)}: {found}"


def test_tests_do_not_refer_to_files_outside_the_repository():
    for path in tracked():
        if path.suffix == ".py":
            assert "shared" + "/eegmat" not in path.read_text(), path


@pytest.mark.parametrize("target", ["demo", "study", "test", ".venv"])
def test_make_knows_its_targets_and_runs_what_exists(target):
    shown = subprocess.run(
        ["make", "-n", "-B", target], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    assert "requirements.txt" in shown.stdout
    for script in re.findall(r"\S+\.py\b", shown.stdout):
        assert (ROOT / script).is_file(), script
    for module in re.findall(r"-m (de3dgan\S*)", shown.stdout):
        assert module_file(module), module
    expected = {
        "demo": "de3dgan.reporting.summary",
        "study": "workflow/run.py",
        "test": "pytest",
        ".venv": "pip install",
    }
    assert expected[target] in shown.stdout


def test_the_demos_flags_are_flags_of_the_scripts():
    shown = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True)
    commands = re.findall(r"(\S+\.py)(.*)", shown.stdout)
    assert len(commands) == 4
    for script, arguments in commands:
        known = {field.name for field in dataclasses.fields(load_script(ROOT / script).Config)}
        for flag in re.findall(r"--([a-z-]+)", arguments):
            assert flag.replace("-", "_") in known, (script, flag)


def test_outputs_are_ignored_by_git():
    names = ["runs/valence/x.json", "DE_feature/deap/eeg.npy", ".venv/x", "eeg_dataset/DEAP/x"]
    ignored = subprocess.run(
        ["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True
    )
    if ignored.returncode == 128:
        pytest.skip("not a git checkout")
    assert ignored.stdout.split() == names
    kept = subprocess.run(["git", "check-ignore", "DE_feature/README.md"], cwd=ROOT)
    assert kept.returncode == 1
