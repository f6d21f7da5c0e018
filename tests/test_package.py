"""The wheel is whole and small, and what was installed from it works where no source tree is."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import glue_mva

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = shutil.ignore_patterns("__pycache__")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of what the source archive holds, so that nothing left in `build/` gets in."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path_factory.mktemp("source")
    for name in ("glue_mva", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=NOT_SHIPPED)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import setuptools.build_meta as b; b.build_wheel('.')"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (built,) = source.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package_and_every_sweep(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    expected = {f"glue_mva/configs/{path.name}": path.read_bytes() for path in (ROOT / "configs").glob("*.toml")}
    for path in (ROOT / "glue_mva").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            expected[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    assert sorted(shipped) == sorted(expected)
    assert shipped == expected
    assert wheel.stat().st_size < 2_000_000


def test_the_version_is_the_same_everywhere(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(name).decode())
    assert metadata["Version"] == glue_mva.__version__
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == glue_mva.__version__
    assert f"\n## {glue_mva.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_is_pinned_above_its_lower_bound():
    packaging = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    for requirement in map(packaging.Requirement, wanted):
        name = requirement.name.lower().replace("_", "-")
        if name == project["name"]:  # an extra that holds another
            continue
        assert name in pins, f"{requirement.name} is not in constraints.txt"
        assert pins[name] in requirement.specifier, f"{requirement} is not met by constraints.txt: {pins[name]}"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory) -> Path:
    """Folder of the commands of a new environment: the wheel, and beside it what is installed here."""
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    bin = folder / "bin"
    command = [sys.executable, "-m", "pip", "--python", bin / "python", "install", "--no-deps", "--no-index", wheel]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (packages,) = folder.glob("lib/python*/site-packages")
    elsewhere = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "elsewhere.pth").write_text("\n".join(elsewhere))
    return bin


def call(bin: Path, *words: str, cwd: Path) -> str:
    """Standard output of one command; its exit code must be 0."""
    no_cluster = {"RAY_ADDRESS": "127.0.0.1:1"}  # without --address a sweep must start its own Ray all the same
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1", **no_cluster}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run([bin / words[0], *words[1:]], cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=900)  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.slow
def test_the_installed_package_works_outside_of_the_repository(installed: Path, tmp_path: Path):
    where = call(installed, "python", "-c", "import glue_mva; print(glue_mva.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    call(installed, "glue-mva", "run", "--demo", "--max-steps", "8", cwd=tmp_path)
    (record,) = tmp_path.glob("runs/*/record.json")
    assert json.loads(record.read_text())["status"] == "ok"
    call(installed, "glue-mva", "sweep", "smoke", cwd=tmp_path)
    records = list(tmp_path.glob("runs/smoke/*/record.json"))
    assert len(records) == 8  # 2 optimizers: 2 points searched, 2 seeds of the best
    call(installed, "glue-mva", "report", "runs/smoke", "--sweep", "smoke", cwd=tmp_path)
    assert (tmp_path / "reports" / "smoke" / "report.html").is_file()
    options = ("--lr", "0.9", "--steps", "500", "--repeats", "3", "--out", "figures")
    call(installed, "glue-mva", "simulate", "nonconvex", *options, cwd=tmp_path)
    assert (tmp_path / "figures" / "nonconvex_curves.svg").is_file()
    told = json.loads(call(installed, "glue-mva", "doctor", "--json", cwd=tmp_path))
    assert told["versions"]["glue_mva"] == glue_mva.__version__


@pytest.mark.slow
def test_the_source_archive_holds_what_its_own_tests_read(tmp_path: Path):
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"
    made_anywhere = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info")
    made_at_the_top = {"build", "dist", "runs", "site"}  # `reports/study/runs` is no such folder

    def left_out(folder: str, names: list[str]) -> set[str]:
        return made_anywhere(folder, names) | (made_at_the_top if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, source, ignore=left_out)
    build = f"import setuptools.build_meta as b; b.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True, timeout=120)
    (archive,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("glue_mva-*/")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/test_docs.py"]
    done = subprocess.run(command, cwd=unpacked, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]
