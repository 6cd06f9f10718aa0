"""The package as it is released: what is in it, and that it works away from the repository."""

import configparser
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pages
import pytest
import yaml
from packaging.version import Version

import nfrl

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "nfrl"
MEGABYTE = 1_000_000


def run(*words, **options):
    """Run a module of this Python's; show what it printed where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, timeout=600, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run("build", "--no-isolation", "--outdir", str(folder), str(ROOT))  # the wheel from the sdist
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def members(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def metadata(wheel, file):
    (text,) = (
        content for name, content in members(wheel).items() if name.endswith(f".dist-info/{file}")
    )
    return text.decode()


def test_both_pass_the_check_of_twine(built):
    assert run("twine", "check", "--strict", *map(str, built)).count("PASSED") == 2


def test_both_are_small(built):
    assert all(file.stat().st_size < 6 * MEGABYTE for file in built)


def test_the_wheel_holds_the_package_and_nothing_else(built):
    files = {name for name in members(built[0]) if ".dist-info/" not in name}
    kept = {
        f"nfrl/{path.relative_to(SOURCES).as_posix()}"
        for path in SOURCES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == kept
    assert "nfrl/py.typed" in files
    for expert in ("ant", "ant-ball", "humanoid"):
        assert {f"nfrl/collect/experts/{expert}{end}" for end in (".json", ".safetensors")} <= files


def test_the_sdist_holds_no_records_and_no_tests(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"src/nfrl/__init__.py", "pyproject.toml", "README.md", "LICENSE"} <= names
    assert not [name for name in names if name.startswith(("results", "tests", "docs", "site"))]


def test_the_metadata(built):
    told = Parser().parsestr(metadata(built[0], "METADATA"))
    assert (told["Name"], told["Version"]) == ("nfrl", nfrl.__version__)
    assert told["License-Expression"] == "MIT"
    assert "Typing :: Typed" in told.get_all("Classifier")
    announced = configparser.ConfigParser()
    announced.optionxform = str
    announced.read_string(metadata(built[0], "entry_points.txt"))
    assert announced["console_scripts"]["nfrl"] == "nfrl.cli.main:main"
    files = members(built[0])
    for group in ("agents", "flows", "tasks", "formats", "recipes", "exporters", "trackers"):
        for reference in announced[f"nfrl.{group}"].values():
            assert f"{reference.partition(':')[0].replace('.', '/')}.py" in files


# The quick start, with an agent small enough for a test.
QUICK_START = """
import sys
from pathlib import Path

import numpy as np

import nfrl
from nfrl.agents import NFBCConfig
from nfrl.flows import RealNVPConfig
from nfrl.interfaces.agent import ChunkShape

assert Path(nfrl.__file__).is_relative_to(sys.argv[1]), nfrl.__file__
rng = np.random.default_rng(0)
data = nfrl.load(
    {
        "observations": rng.normal(size=(200, 6)),
        "actions": rng.uniform(-2, 2, size=(200, 3)),
        "timeouts": np.arange(200) % 40 == 39,
    }
)
agent = NFBCConfig(
    encoder=(8,),
    condition_dim=8,
    flow=RealNVPConfig(1, 8),
    chunks=ChunkShape(1, 4, 2),
    denoising=False,
)
policy = nfrl.fit(agent, data, steps=3, batch_size=8, progress=False)
action = policy(data.training.observations[0])
assert action.shape == (3,)
assert (abs(action) <= 2).all()
log_prob = policy.log_prob(np.zeros(6), np.zeros((4, 3)))
assert np.isfinite(log_prob)
again = nfrl.load_policy(policy.save("my-policy"))
assert abs(again.log_prob(np.zeros(6), np.zeros((4, 3))) - log_prob) < 1e-4
"""


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Where the wheel is installed, and the environment in which nfrl comes from there."""
    target = tmp_path_factory.mktemp("installed")
    words = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--target"]
    run("pip", "install", *words, str(target), str(built[0]))
    # The folder of the sources is not on the path, and stands behind the wheel if it is installed.
    return target, {**os.environ, "PYTHONPATH": str(target)}


def test_the_quick_start_of_an_installed_wheel(installed, tmp_path):
    target, environment = installed
    done = subprocess.run(
        [sys.executable, "-c", QUICK_START, str(target)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["my-policy"]


WITHOUT_JAX = """
import sys
for name in ("jax", "jaxlib", "nfrl", "equinox", "flowjax"):
    sys.modules[name] = None
exec(compile(open("loop.py").read(), "loop.py", "exec"))
"""


def test_the_page_on_the_robot_with_an_installed_wheel(installed, tmp_path):
    # Train, track, save, export; then act where neither nfrl nor JAX can be imported.
    _, environment = installed
    names = [path.name for path in pages.write_files(pages.page("export.md"), tmp_path)]
    assert names == ["train.py", "loop.py"]
    said = [
        subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        ).stdout
        for words in (["train.py"], ["-c", WITHOUT_JAX])
    ]
    assert "'act'" in said[0]
    assert "'log_prob'" in said[0]
    assert re.search(r"median \d+\.\d\d ms, 99th percentile \d+\.\d\d ms", said[1])
    assert list((tmp_path / "runs/mine/tensorboard").iterdir())
    assert (tmp_path / "my-policy/policy.safetensors").is_file()


def test_the_version_has_one_source():
    assert str(Version(nfrl.__version__)) == nfrl.__version__  # PEP 440, in its normal form
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(.+?)\] - (unreleased|\d{4}-\d{2}-\d{2})$", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] == nfrl.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == nfrl.__version__
