"""The house rules that are easily broken unseen: who imports whom, run lines, help texts, what git holds."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "technical"
PACKAGES = ("common", "facial_rec", "dsr", "pipeline")  # each may import itself and those before it
# One entry point trains EdgeFace on what the DSR makes of faces.
IMPORT_EXCEPTIONS = {("facial_rec.finetune_edgeface", "dsr")}
TORCH_IN_COMMON = {"common.device"}
MAX_FILE_BYTES = 8 * 1024 * 1024
# The page, as the tests of the page take it: made-up people, which tests/pipeline/web/test_screenshot.py asserts.
SCREENSHOT = REPOSITORY / "technical" / "pipeline" / "web" / "screenshot.png"
MAX_SCREENSHOT_BYTES = 300_000
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {
    module_name(path): ast.parse(path.read_text()) for name in PACKAGES for path in (SOURCE / name).rglob("*.py")
}
RUNNABLE = sorted(
    name
    for name, tree in MODULES.items()
    if {"main", "Config"} <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
)
every_module = pytest.mark.parametrize("name", sorted(MODULES))
every_runnable = pytest.mark.parametrize("name", RUNNABLE)


def imported_packages(tree: ast.Module) -> set[str]:
    """Top-level names of all imports, those inside functions and `if TYPE_CHECKING` included."""
    nodes = list(ast.walk(tree))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {full.split(".")[0] for full in plain | {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}}


def tracked_files() -> list[Path]:
    # A clone may belong to another user than the one who runs the tests, which git otherwise refuses.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout.decode()
    paths = [REPOSITORY / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file()]


@every_module
def test_imports_run_one_way(name: str) -> None:
    own = PACKAGES.index(name.split(".")[0])
    above = imported_packages(MODULES[name]).intersection(PACKAGES[own + 1 :])
    assert not {package for package in above if (name, package) not in IMPORT_EXCEPTIONS}


@every_module
def test_no_relative_import(name: str) -> None:
    relative = [node for node in ast.walk(MODULES[name]) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative, "imports name their package, so that the direction can be read"


@pytest.mark.parametrize("name", sorted(n for n in MODULES if n.startswith("common") and n not in TORCH_IN_COMMON))
def test_common_never_imports_torch(name: str) -> None:
    assert not imported_packages(MODULES[name]) & {"torch", "torchvision", "timm", "kornia"}
    assert "common.device" not in {n.module for n in ast.walk(MODULES[name]) if isinstance(n, ast.ImportFrom)}


@every_runnable
def test_runnable_says_how_to_run_it(name: str) -> None:
    tree = MODULES[name]
    assert f"python -m {name}" in (ast.get_docstring(tree) or ""), "the run line belongs in the module docstring"
    assert any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)


@every_runnable
def test_every_field_of_config_is_explained(name: str) -> None:
    config = next(n for n in MODULES[name].body if isinstance(n, ast.ClassDef) and n.name == "Config")
    assert any("frozen=True" in ast.unparse(decorator) for decorator in config.decorator_list)
    for node, following in zip(config.body, [*config.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            assert is_text, f"{name}.Config.{ast.unparse(node.target)} needs a docstring: it is the --help"


@every_module
def test_public_names_have_docstrings(name: str) -> None:
    """Functions and classes; the fields of a dataclass may speak for themselves."""
    public = [
        node
        for node in MODULES[name].body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]
    exempt = {"main", "Config"} if name in RUNNABLE else set()  # the module docstring is theirs
    bare = [node.name for node in public if node.name not in exempt and not ast.get_docstring(node)]
    assert not bare, f"{name}: without docstring: {', '.join(bare)}"
    assert ast.get_docstring(MODULES[name]) or not MODULES[name].body, f"{name}: no module docstring"


@every_module
def test_weights_are_read_safely_and_strictly(name: str) -> None:
    calls = [node for node in ast.walk(MODULES[name]) if isinstance(node, ast.Call)]
    for call in calls:
        function = ast.unparse(call.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if function == "torch.load":
            assert given.get("weights_only") == "True", f"{name}:{call.lineno}: torch.load without weights_only=True"
        if function.endswith("load_state_dict"):
            assert given.get("strict", "True") == "True", f"{name}:{call.lineno}: keys must match strictly"
            assert len(call.args) < 2, f"{name}:{call.lineno}: keys must match strictly"
        assert function not in ("pickle.load", "pickle.loads"), f"{name}:{call.lineno}: a pickle can run code"


def test_git_holds_no_built_or_big_file() -> None:
    files = tracked_files()
    assert not [path for path in files if path.suffix in (".pyc", ".pyo") or "__pycache__" in path.parts]
    assert not [path for path in files if path.stat().st_size > MAX_FILE_BYTES]


def test_git_holds_no_photo() -> None:
    assert [path for path in tracked_files() if path.suffix.lower() in IMAGE_SUFFIXES] == [SCREENSHOT]
    assert SCREENSHOT.stat().st_size < MAX_SCREENSHOT_BYTES


# In pieces, so that this file does not hold what it looks for.
REGISTRY_HOSTS = ("py" + "pi.org", "python" + "hosted.org", "registry.npm" + "js", "deb." + "debian.org")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)/")


def test_no_registry_host_and_no_machine_path() -> None:
    found = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", errors="ignore")
        hits = [host for host in REGISTRY_HOSTS if host in text] + MACHINE_PATH.findall(text)
        found += [f"{path.relative_to(REPOSITORY)}: {hit}" for hit in hits]
    assert not found


def test_readmes_name_modules_that_exist() -> None:
    readmes = [path for path in tracked_files() if path.name == "README.md"]
    assert REPOSITORY / "README.md" in readmes
    for path in readmes:
        named = re.findall(r"python -m ((?:common|facial_rec|dsr|pipeline)[\w.]*\w)", path.read_text())
        missing = sorted(set(named) - MODULES.keys())
        assert not missing, f"{path.relative_to(REPOSITORY)} tells the reader to run {', '.join(missing)}"


def test_every_package_is_installed_from_the_source_root() -> None:
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert Path(str(spec.origin)).parent == SOURCE / package


def test_main_dependencies_do_not_bring_torch() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    names = {re.split(r"[ (<>=]", dependency)[0] for dependency in project["project"]["dependencies"]}
    assert {"onnxruntime", "numpy", "pillow"} <= names
    locked = {
        package["name"]: package for package in tomllib.loads((REPOSITORY / "poetry.lock").read_text())["package"]
    }
    assert "main" not in locked["torch"]["groups"]
    assert "main" in locked["onnxruntime"]["groups"]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_lock_holds_one_version_of_each_package(machine: str) -> None:
    """Two versions whose markers overlap would be installed one over the other."""
    environment = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine, "os_name": "posix"}
    packages = tomllib.loads((REPOSITORY / "poetry.lock").read_text())["package"]
    versions: dict[str, set[str]] = {}
    for package in packages:
        marker = package.get("markers", "")
        # One marker for all groups, or one a group.
        for text in marker.values() if isinstance(marker, dict) else [marker]:
            if not text or Marker(text).evaluate(environment):
                versions.setdefault(package["name"], set()).add(package["version"])
    assert not {name: found for name, found in versions.items() if len(found) > 1}
