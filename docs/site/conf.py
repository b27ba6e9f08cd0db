"""How Sphinx makes the site of `make site`: the guides, and a page of each module."""

import sys
from pathlib import Path
from types import FunctionType

from sphinx.addnodes import pending_xref

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

project = "DE-3DGAN"
author = "The DE-3DGAN authors"
copyright = "The DE-3DGAN authors, MIT licence"  # noqa: A001, Sphinx calls it so

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_parser",
]
# The repository is the source, so that links of the guides lead where they lead there.
root_doc = "docs/site/index"
include_patterns = [
    "docs/**",
    "benchmarks/*.md",
    "README.md",
    "DE_feature/README.md",
    "eeg_dataset/README.md",
    "eeg_dataset/*/README.md",
    "pretrained/*/CARD.md",
]
exclude_patterns = ["docs/site/_templates", "docs/site/html", ".*", "runs"]
templates_path = [str(ROOT / "docs" / "site" / "_templates")]

highlight_language = "none"  # unless a block says which: most are of a terminal
html_theme = "furo"
html_additional_pages = {"index": "index.html"}  # leads to the root document
html_title = "DE-3DGAN"
html_copy_source = False
html_show_search_summary = False  # of files that are no server's, browsers let it read none
html_show_sphinx = False

# A name in backticks is a link where there is something of that name. One of ours must be there.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!de3dgan\.).*")]

suppress_warnings = ["myst.xref_missing"]  # of folders; tests/test_docs.py looks up all links

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say it, with shapes and units
napoleon_google_docstring = False
napoleon_use_rtype = False
myst_heading_anchors = 3


def setup(app):
    """Let names be what they are in the module that uses them, imported ones included."""
    app.connect("doctree-read", exact)
    app.connect("missing-reference", imported)
    app.connect("autodoc-skip-member", said)
    app.connect("autodoc-process-docstring", without_types, priority=400)  # before napoleon


def said(app, what, name, obj, skip, options):
    """Leave out what others have written: Python's text of a field, scikit-learn's methods."""
    builtin = isinstance(obj, type) and obj.__module__ == "builtins"
    foreign = isinstance(obj, FunctionType) and not obj.__module__.startswith("de3dgan.")
    return skip or builtin or foreign or type(obj).__name__ == "_tuplegetter"


def without_types(app, what, name, obj, options, lines):
    """Keep what is before a colon from being taken for the type of a constant or property."""
    if what in ("data", "attribute", "property"):
        lines.insert(0, "")


def exact(app, doctree):
    """Keep types of parameters from being anything that ends in the same word."""
    for node in doctree.findall(pending_xref):
        node.attributes.pop("refspecific", None)


def imported(app, env, node, contnode):
    """Return a link to what a module has imported under the name that it is looked up by."""
    module = sys.modules.get(node.get("py:module"))
    found = getattr(module, node.get("reftarget", ""), None)
    name = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    if name.startswith("de3dgan."):
        domain = env.get_domain("py")
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, contnode)
    return None
