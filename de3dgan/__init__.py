"""DE-3DGAN: EEG from differential entropy, and emotion recognition with it.

In the repository the networks lie beside this package, in ``models/``, where they are found first;
where it is installed, in it. Both are `de3dgan.models`: a package called ``models`` would be in the
way of everyone who has a folder of that name.
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
if not (_HERE / "models").is_dir():
    __path__.append(str(_HERE.parent))
