"""The rules of the house: floors, sizes, names, and a command line that answers without torch."""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "pchmr"
FILES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN_ROOMS = {
    "utils", "common", "core", "lib", "helpers", "engine", "hooks", "callbacks", "registry",
    "third_party", "configs", "scripts", "notebooks", "experimental", "legacy",
}  # fmt: skip


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield f"{file.relative_to(SOURCE)}:{node.name}", node


def length(node: ast.FunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_files_stay_under_350_lines() -> None:
    long = {str(f): n for f in FILES if (n := f.read_text().count("\n")) > 350}
    assert not long


def test_files_are_small_and_leave_their_layout_to_the_formatter() -> None:
    texts = [f.read_text() for f in FILES]
    assert statistics.median(text.count("\n") for text in texts) <= 130
    assert sum(text.count("# fmt: skip") for text in texts) <= 20


def test_rows_have_types() -> None:
    """A dict of anything says nothing; what JSON holds is a `Json`, what is known a type."""
    assert sum(f.read_text().count("dict[str, Any]") for f in FILES) <= 30


def test_functions_stay_short() -> None:
    lengths = {name: length(node) for name, node in functions()}
    assert not {name: n for name, n in lengths.items() if n > 50}
    assert statistics.median(lengths.values()) <= 8


def test_rooms_have_names_of_the_house() -> None:
    names = {part for f in FILES for part in f.relative_to(SOURCE).with_suffix("").parts}
    assert not names & FORBIDDEN_ROOMS


def test_every_file_says_what_it_is_for() -> None:
    silent = [str(f) for f in FILES if f.read_text().strip() and not ast.get_docstring(
        ast.parse(f.read_text()))]  # fmt: skip
    assert not silent


def test_floors_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_only_the_federated_room_imports_flower() -> None:
    outside = [
        str(f.relative_to(SOURCE))
        for f in FILES
        if re.search(r"^\s*(from|import) flwr", f.read_text(), re.M)
        and f.relative_to(SOURCE).parts[0] != "federated"
    ]
    assert not outside


@pytest.mark.parametrize("module", ["smplx", "anny", "chumpy", "pickle5"])
def test_no_licensed_or_build_time_package_at_run_time(module: str) -> None:
    users = {
        str(f.relative_to(SOURCE))
        for f in FILES
        if re.search(rf"^\s*(from|import) {module}\b", f.read_text(), re.M)
    }
    assert users <= ({"body/anny_source.py"} if module == "anny" else set())


def test_joint_integers_live_in_one_file() -> None:
    """A joint axis indexed by a literal integer is a joint by number; joints have names."""
    by_number = re.compile(
        r"\b(joints|keypoints_2d|body_pose)\[(:, ?-?\d+[\],]|\.\.\., ?-?\d+, ?:)"
    )
    found = [
        f"{f.relative_to(SOURCE)}: {line.strip()}"
        for f in FILES
        if f.name != "joints.py"
        for line in f.read_text().splitlines()
        if by_number.search(line)
    ]
    assert not found


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_help_imports_no_torch_and_no_numpy() -> None:
    code = (
        "import sys\nfrom pchmr.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "assert not {'torch', 'numpy', 'flwr'} & set(sys.modules)\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "federate" in done.stdout


@pytest.mark.whole
def test_commands_start_without_compiler_and_model_zoo() -> None:
    """Together they are 180 MB and more than a third of the time to start."""
    code = (
        "import sys\nimport pchmr.predict, pchmr.experiment\n"
        "assert not {'torch._dynamo', 'timm', 'torchvision', 'sympy'} & set(sys.modules)\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.whole
def test_rooms_of_verbs_import_with_run_time_dependencies_alone() -> None:
    """What only extras bring may be missing until somebody asks for what it does."""
    extras = ("onnx", "onnxruntime", "onnxscript", "av", "pillow_heif", "transformers", "ray")
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({extras}))\n"
        "from importlib import import_module\nfrom pchmr.cli import VERBS\n"
        "for name in sorted({verb.target.split(':')[0] for verb in VERBS.values()}):\n"
        "    import_module(name)\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_commands_of_the_readme_exist() -> None:
    from pchmr.cli import VERBS

    text = (ROOT / "README.md").read_text()
    verbs = set(re.findall(r"pchmr ([a-z]+)", text)) - {"is"}
    targets = set(re.findall(r"^make ([a-z]+)", text, re.M))
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test"} <= targets
    assert verbs <= set(VERBS), verbs - set(VERBS)
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


def test_no_machine_path_in_the_project() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    text_kinds = {".py", ".md", ".toml", ".txt", ".json", ".jsonl", ".cff", ".html", ".css", ""}
    pattern = re.compile("/(work|root)" + "/")
    found = [
        name
        for name in tracked
        if (file := ROOT / name).is_file() and file.suffix in text_kinds
        and pattern.search(file.read_text(errors="ignore"))
    ]  # fmt: skip
    assert not found


def test_constraints_hold_pins_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines and all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)


def test_pages_of_results_equal_what_is_regenerated() -> None:
    from pchmr.report.editions import earlier
    from pchmr.report.results import pages_of

    written: set[Path] = set()
    for folder in (ROOT / "results", *earlier(ROOT / "results")):
        pages = {folder / name: text for name, text in pages_of(folder).items()}
        assert not [path for path, text in pages.items() if path.read_text() != text]
        written |= set(pages)
    assert set((ROOT / "results").glob("**/*.md")) == written
