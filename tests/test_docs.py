"""The documents: links that resolve, commands and names that exist, figures that were measured."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from dataclasses import fields
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from de3dgan.base.recipe import SCRIPTS, find_scripts, load_script
from tests.conftest import ROOT
from tests.test_repository import OPTIONAL, ROOMS

DOCUMENTS = sorted(
    path
    for pattern in (
        *("README.md", "docs/**/*.md", "benchmarks/*.md"),
        *("DE_feature/README.md", "eeg_dataset/**/README.md", "pretrained/*/CARD.md"),
    )
    for path in ROOT.glob(pattern)
)
#: Those that say how to do things, or what things are; the others are results.
GUIDES = [path for path in DOCUMENTS if path.parent.name != "benchmarks"]
#: Flags of programs that are not ours.
FOREIGN_FLAGS = {"--logdir", "--nproc-per-node", "--dry-run", "--config"}


def names(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


def test_there_are_documents():
    assert {"README.md", "docs/design.md", "benchmarks/RESULTS.md"} <= set(names(DOCUMENTS))
    assert len(DOCUMENTS) > 15


def test_the_readme_is_read_to_the_end():
    assert 8_000 <= len((ROOT / "README.md").read_bytes()) <= 9_000


# --- links


def prose(text: str) -> str:
    """Return a document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def links(text: str) -> list[str]:
    """Return where the links and pictures of a document lead."""
    text = re.sub(r"`[^`\n]*`", "code", prose(text))
    return re.findall(r"\]\(([^)\s]*)\)", text) + re.findall(r"<(https?:[^>\s]*)>", text)


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def broken(link: str, origin: Path) -> str | None:
    """Return what is wrong with a link of the document `origin`, if anything is."""
    parts = urlsplit(link)
    if parts.scheme:
        return None if parts.scheme == "https" and "." in parts.netloc else "is no address"
    target = (origin.parent / unquote(parts.path)).resolve() if parts.path else origin
    if ROOT not in target.parents or not target.exists():
        return "leads nowhere"
    if parts.fragment and parts.fragment not in anchors(target.read_text(encoding="utf-8")):
        return "names no heading"
    return None


@pytest.mark.parametrize("path", DOCUMENTS, ids=names(DOCUMENTS))
def test_links_resolve(path):
    text = path.read_text(encoding="utf-8")
    assert not {link: why for link in links(text) if (why := broken(link, path))}
    # A link that is broken over two lines, or has no target, would not have been looked at.
    assert not re.findall(r"\]\s+\((?:\.|#|http)|\]\(\)", prose(text))


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("docs/running.md", None),
        ("docs/running.md#gpus", None),
        ("#start-here", None),
        ("https://example.org/a#b", None),
        ("docs/nowhere.md", "leads nowhere"),
        ("../README.md", "leads nowhere"),
        ("docs/running.md#tpus", "names no heading"),
        ("https://nowhere", "is no address"),
        ("ftp://example.org", "is no address"),
    ],
)
def test_a_broken_link_is_noticed(link, why):
    assert broken(link, ROOT / "README.md") == why
    assert links(f"See [there]({link}).") == [link]


def test_every_page_can_be_reached_from_the_readme():
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            parts = [urlsplit(link) for link in links(path.read_text(encoding="utf-8"))]
            local = [(path.parent / p.path).resolve() for p in parts if p.path and not p.scheme]
            waiting += [target for target in local if target.suffix == ".md"]
    assert {path for path in DOCUMENTS if "eeg_dataset" not in path.parts} <= seen


# --- commands and names


def code(text: str) -> list[str]:
    """Return what a document sets as code: whole lines of blocks, and spans."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.S | re.M)
    lines = re.sub(r"\s*\\\n\s*", " ", "\n".join(blocks)).splitlines()
    return lines + re.findall(r"`([^`\n]+)`", prose(text))


@functools.cache
def flags_of(script: Path) -> set[str]:
    """Return the flags of a script of ours: the fields of its configurations."""
    if script.parent.name == "benchmarks":  # whose imports take their time
        classes = [node for node in ast.parse(script.read_text()).body if is_config(node)]
        assigned = [node for config in classes for node in config.body]
        found = [node.target.id for node in assigned if isinstance(node, ast.AnnAssign)]
    else:
        module = load_script(script)
        configs = [module.Config, getattr(module, "Published", module.Config)]
        found = [field.name for config in configs for field in fields(config)]
    return {f"--{name.rstrip('_').replace('_', '-')}" for name in found} | {"--help"}


def is_config(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and node.name == "Config"


SCRIPTS_WITH_FLAGS = [
    *(path for stage in SCRIPTS for path in find_scripts(stage).values()),
    *(
        ROOT / name
        for name in ("preprocess_de.py", "report.py", "generate.py", "pretrained/make.py")
    ),
    *(
        ROOT / "de3dgan" / name
        for name in (
            "data/fetch.py",
            "data/planted.py",
            "data/synthetic.py",
            "figures/virtual.py",
            "reporting/summary.py",
        )
    ),
    *(path for path in (ROOT / "benchmarks").glob("*.py") if "command_line(" in path.read_text()),
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=names(DOCUMENTS))
def test_flags_exist(path):
    known = set().union(*map(flags_of, SCRIPTS_WITH_FLAGS)) | FOREIGN_FLAGS
    for piece in code(path.read_text(encoding="utf-8")):
        if piece.startswith(("pip ", "make ")):
            continue
        command = re.search(r"python (?:-m )?([\w./-]+)", piece)
        allowed = known
        if command:
            name = (
                command[1] if command[1].endswith(".py") else f"{command[1].replace('.', '/')}.py"
            )
            if ROOT / name in SCRIPTS_WITH_FLAGS:
                allowed = flags_of(ROOT / name)
        used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", piece))
        assert used <= allowed, (piece, used - allowed)


#: Files that are made, or are to be made by a reader.
MADE = (
    r"(.*/)?(_Dominance\.py|mine\.py|CARD\.md|summary\.md|report\.md|log\.txt|card\.txt|SHA256SUMS\.txt)"
    r"|runs/.*"
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=names(DOCUMENTS))
def test_files_and_modules_exist(path):
    for piece in code(path.read_text(encoding="utf-8")):
        for module in re.findall(r"(?:-m |^from |^import |^)(de3dgan(?:\.\w+)+)", piece):
            assert is_importable(module), module
        for name in re.findall(r"(?<![\w/.<*-])[\w./-]+\.(?:py|md|yaml|txt)\b", piece):
            places = (ROOT / name, path.parent / name)
            assert re.fullmatch(MADE, name) or any(place.is_file() for place in places), name


def is_importable(name: str) -> bool:
    """Return whether `name` is a package or module of ours, or something in a module."""
    module, _, inside = name.rpartition(".")
    places = [
        ROOT / dotted.replace("de3dgan.models", "models").replace(".", "/")
        for dotted in (name, module)
    ]
    if places[0].is_dir() or places[0].with_suffix(".py").is_file():
        return True
    file = places[1].with_suffix(".py")
    defined = re.compile(rf"^(def |class )?{inside}\b", re.M)
    return file.is_file() and bool(defined.search(file.read_text()))


@pytest.mark.parametrize("path", GUIDES, ids=names(GUIDES))
def test_make_knows_what_it_is_asked_for(path):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split())
    settings = set(re.findall(r"call GIVEN,(\w+),", makefile)) | {"PROFILE", "SNAKEMAKE"}
    for piece in code(path.read_text(encoding="utf-8")):
        asked = re.match(r"make (\S+)(.*)", piece)
        if asked:
            assert asked[1] in targets, piece
            assert set(re.findall(r"\b([A-Z_]+)=", asked[2])) <= settings, piece


def test_python_in_the_guides_is_python_and_imports_what_there_is():
    found = 0
    for path in GUIDES:
        for block in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.S | re.M):
            compile(block, str(path), "exec")
            lines = [line for line in block.splitlines() if line.startswith(("import", "from"))]
            imports = [line for line in lines if re.split(r"[ .]", line)[1] not in OPTIONAL]
            imported = {}
            exec("\n".join(imports), imported)
            for name, attribute in re.findall(r"\b(\w+)\.(\w+)", block):
                assert name not in imported or hasattr(imported[name], attribute), (name, attribute)
            found += len(imports)
    assert found > 2


# --- figures


def test_figures_in_the_guides_are_those_that_were_measured():
    """Every figure with two or more decimals stands in a page of benchmarks/ as well."""
    measured = " ".join(path.read_text() for path in DOCUMENTS if path.parent.name == "benchmarks")
    n_looked_at = 0
    for path in [path for path in GUIDES if not {"eeg_dataset", "pretrained"} & {*path.parts}]:
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"<!-- demo table.*?^## ", "", text, flags=re.S | re.M)  # of make demo
        text = re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", prose(text))
        for figure in re.findall(r"(?<![\d.])[01]\.\d\d+(?!\d)(?! GB)", text):
            assert re.search(rf"(?<!\d){re.escape(figure)}(?!\d)", measured), (path.name, figure)
            n_looked_at += 1
    assert n_looked_at > 20


def test_the_demo_table_is_one_that_make_demo_prints():
    """Without the single baselines: the README has the two that are chosen on validation."""
    from de3dgan.evaluation.names import CHOSEN
    from de3dgan.reporting.results import MODELS

    table = (ROOT / "README.md").read_text().partition("<!-- demo table: make demo -->")[2]
    heading, *rows = re.findall(r"^\| ([^|]+) \|", table.partition("\n\n| told")[0], re.M)
    assert heading == "test split"
    shown = [model for model, name in MODELS.items() if name in rows]
    assert [MODELS[model] for model in shown] == rows
    assert set(shown) >= {*CHOSEN, "majority", "classifier", "finetune"}


# --- rooms


def test_the_table_of_rooms_is_that_of_the_folders():
    table = (ROOT / "docs" / "design.md").read_text().partition("## Rooms")[2].partition("##")[0]
    rooms = re.findall(r"^\| `(?:de3dgan/)?(\w+)/` \|", table, re.M)
    assert rooms == ROOMS


def test_documents_are_not_ignored_by_git():
    done = subprocess.run(["git", "check-ignore", *names(DOCUMENTS)], cwd=ROOT, capture_output=True)
    assert done.returncode in (1, 128)
