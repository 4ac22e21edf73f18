"""The house holds: arrows point down, each dependency has one home, files stay short."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "xaicompare"

# Layer of each room; a module imports from lower layers only, siblings of one package from each other.
LAYERS = {
    "errors": 0,
    "_torchvision": 0,
    "colours": 0,
    "titles": 0,
    "turns": 0,
    "borrow": 1,
    "boundary": 1,
    "draws": 1,
    "files": 1,
    "notebook": 1,
    "progress": 1,
    "scripted": 1,
    "segments": 1,
    "settings": 1,
    "core": 2,
    "attended": 2,
    "diagnosis": 3,
    "registry": 3,
    "results": 3,
    "runs": 4,
    "lrp": 4,
    "zoo": 4,
    "methods": 5,
    "metrics": 5,
    "stats": 5,
    "training": 5,
    "comparison": 6,
    "cost": 3,
    "figures": 6,
    "saved": 6,
    "study": 7,
    "reporting": 8,
    "completion": 7,
    "console": 8,
    "options": 8,
    "evaluation": 9,
    "model_comparison": 9,
    "explore": 9,
    "cli": 10,
    "__init__": 10,
    "__main__": 11,
}

# The rooms that may import a dependency; whatever is not listed may be imported anywhere.
HOMES = {
    "captum": {"methods"},
    "zennit": {"methods"},
    "skimage": {"segments"},
    "sklearn": {"methods", "zoo"},
    "torchvision": {"_torchvision", "zoo", "methods", "metrics"},
    "safetensors": {"zoo", "study", "saved"},
    "pandas": {"results", "runs", "stats", "figures"},
    "pyarrow": {"results", "runs"},
    "scipy": {"stats"},
    "scikit_posthocs": {"stats", "figures"},
    "matplotlib": {"figures"},
    "seaborn": {"figures"},
    "pydantic": {"settings"},
    "tqdm": {"progress"},
    "typer": {"cli", "options"},
    "rich": {"console"},
    "joblib": {"study"},
    "distributed": {"study"},
    "ray": {"study"},
    "optuna": {"study"},
    "jinja2": {"reporting"},
    "vl_convert": {"reporting"},
    "PIL": {"zoo", "reporting"},
    "quantus": {"metrics"},
    "torch_pruning": {"training"},
    "pydicom": {"zoo"},
    "starlette": {"explore"},
    "uvicorn": {"explore"},
}

FILES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    """The package or module right below xaicompare that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    """Every module that a file imports, also inside functions."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module or "")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_down(path: Path) -> None:
    here = room(path)
    for name in imported(path):
        if name.startswith("xaicompare."):
            there = name.split(".")[1]
            assert there == here or LAYERS[there] < LAYERS[here], f"{path.name} imports {name}: an arrow up"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_dependency_is_at_home(path: Path) -> None:
    for name in imported(path):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or room(path) in homes, f"{path.name} imports {name}, at home in {homes}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path: Path) -> None:
    assert path.read_text().count("\n") < 400


def test_public_names_are_sorted_and_exist() -> None:
    import xaicompare

    assert xaicompare.__all__ == sorted(xaicompare.__all__)
    for name in xaicompare.__all__:
        assert getattr(xaicompare, name) is not None
