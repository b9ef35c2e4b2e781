"""The wheel holds every module and nothing else at top level, and each of them imports."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    (source / "keypoint_detection").symlink_to(ROOT / "keypoint_detection")
    (source / "test").symlink_to(ROOT / "test")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top_level = {name.split("/")[0] for name in names}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"keypoint_detection"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "keypoint_detection").rglob("*.py")}
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "keypoint_detection/templates").iterdir()}
    others = {"keypoint_detection/py.typed"} | templates
    assert modules | others == {name for name in names if ".dist-info/" not in name}


def test_every_module_imports_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = """
import importlib, pathlib, sys
sys.path.insert(0, sys.argv[1])
root = pathlib.Path(sys.argv[1])
for path in sorted(root.rglob("keypoint_detection/**/*.py")):
    parts = [part for part in path.relative_to(root).with_suffix("").parts if part != "__init__"]
    module = importlib.import_module(".".join(parts))
    assert module.__file__.startswith(sys.argv[1]), module.__file__
print("imported", sum(1 for _ in root.rglob("*.py")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("imported")


def test_command_and_extras_are_declared(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = {
            name.split("/")[-1]: archive.read(name).decode()
            for name in archive.namelist()
            if ".dist-info/" in name
        }
    assert "keypoint-detection = keypoint_detection.__main__:main" in info["entry_points.txt"]
    extras = {
        line.split(": ")[1] for line in info["METADATA"].splitlines() if line.startswith("Provides-Extra")
    }
    assert extras == {
        *("onnx", "video", "sleap", "dlc", "gaze", "parquet", "fast", "sweep", "tensorboard", "rich", "dev")
    }


def test_import_is_quick_and_silent() -> None:
    code = "import sys, keypoint_detection as kd; assert 'torch' not in sys.modules; print(kd.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_every_public_name_is_there() -> None:
    import keypoint_detection as kd

    assert all(getattr(kd, name) is not None for name in kd.__all__)
    assert callable(kd.train)
    with pytest.raises(AttributeError, match="trian"):
        _ = kd.trian
