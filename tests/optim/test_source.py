"""What an own optimizer is made of: the digest changes with its source, and with nothing else."""

import importlib
import importlib.metadata
import sys
from pathlib import Path

import pytest

from glue_mva import UsageError
from glue_mva.config.identity import run_id
from glue_mva.config.resolve import resolve
from glue_mva.config.run import RunConfig
from glue_mva.optim.registry import OPTIMIZERS, get_optimizer
from glue_mva.optim.source import source_digest

FILES = {
    "mine/__init__.py": "",
    "mine/opt.py": "import torch\nfrom . import rule\nfrom .deep.inner import x\nclass Mine(torch.optim.SGD): pass\n",
    "mine/rule.py": "def rule(): return 1\n",
    "mine/deep/__init__.py": "from ..far import y\n",
    "mine/deep/inner.py": "x = 1\n",
    "mine/far.py": "y = 1\n",
    "mine/unused.py": "raise RuntimeError('nobody imports this')\n",
}
PATH = "mine.opt:Mine"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", [name for name in FILES if name != "mine/unused.py"])
def test_a_change_in_any_module_that_it_imports_changes_the_digest(name: str, project: Path):
    before = source_digest(PATH)
    (project / name).write_text(FILES[name] + "# another version\n")
    assert source_digest(PATH) not in (before, None)
    (project / name).write_text(FILES[name])
    assert source_digest(PATH) == before


def test_nothing_else_changes_it_and_nothing_is_run(project: Path):
    before = source_digest(PATH)
    (project / "mine" / "unused.py").write_text("another version")
    (project / "mine" / "notes.txt").write_text("text")
    assert source_digest(PATH) == before
    assert not [name for name in sys.modules if name.partition(".")[0] == "mine"]
    assert source_digest("mine.opt:Other") == before  # the whole module counts


def test_the_same_source_elsewhere_is_the_same(project: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch):
    before = source_digest(PATH)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (project / "mine").rename(elsewhere / "mine")
    monkeypatch.syspath_prepend(str(elsewhere))
    assert source_digest(PATH) == before


def test_an_installed_package_counts_by_its_version(project: Path):
    version = importlib.metadata.version("torch").partition("+")[0]
    assert source_digest("torch.optim:SGD") == f"torch=={version}"
    assert source_digest("no_such_module:X") is None
    before = source_digest(PATH)
    (project / "mine" / "rule.py").write_text("import filelock\n")
    with_package = source_digest(PATH)
    (project / "mine" / "rule.py").write_text("import filelock \n")
    assert len({before, with_package, source_digest(PATH)}) == 3


def test_the_source_is_part_of_run_id_for_own_optimizers_only(project: Path):
    def ids() -> list[str]:
        return [run_id(resolve(RunConfig(task="rte", optim=optim))) for optim in (PATH, *OPTIMIZERS)]

    before = ids()
    (project / "mine" / "far.py").write_text("y = 2\n")
    after = ids()
    assert before[0] != after[0] and before[1:] == after[1:]


def test_a_source_that_changed_after_its_import_is_refused(project: Path):
    get_optimizer(PATH).cls  # noqa: B018 - imports it
    assert get_optimizer(PATH).cls.__name__ == "Mine"
    (project / "mine" / "rule.py").write_text("def rule(): return 2\n")
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match="changed after this process imported it"):
        get_optimizer(PATH).cls  # noqa: B018 - as above
