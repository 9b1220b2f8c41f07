"""What happens in every test process before the package is imported; fixtures are in `people.py`.

What others wrote is imported before the package is: jaxtyping's import hook looks for compiled
files of its own while a module of the package is loaded, and would compile again, in every
process, whatever that module is the first to import. A process that only hands out tests imports
none of it.

Shapes are checked at the first calls of every function in a process and at some of all later ones:
checks at each call of the innermost functions took half of the time of the tests of fits.
"""

import functools
import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FIRST_IMPORTED = (
    "beartype.door",
    "flwr.clientapp",
    "flwr.serverapp",
    "jinja2",
    "matplotlib.figure",
    "rich.progress",
    "scipy.cluster.vq",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.spatial.transform",
    "scipy.stats",
    "torch",
    "trimesh.exchange.gltf",
    "tyro",
)
LONGEST_FIRST = (
    "test_demo.py",
    "device/test_export.py",
    "bench/test_comparison.py",
    "federated/test_run.py",
    "test_loop.py",
    "test_training.py",
)
"""Files that would keep one process busy when the others have nothing left."""
PEOPLE = "tests.people"  # found by that name in processes that tests start
NEEDS_THE_USERS_DATA = ("priors", "licensed")
USERS_DATA = os.environ.get("PCHMR_DATA")
FIRST_CALLS, LATER_CALLS = 200, 50  # checked: the first so many, then every so many


def checked_sparingly(decorate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What jaxtyping's hook decorates the package with, in place of checks at every call."""

    def wrap(thing: Any) -> Any:
        checked = decorate(thing)
        if not inspect.isfunction(thing):
            return checked
        count = 0

        @functools.wraps(thing)
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            due = count <= FIRST_CALLS or count % LATER_CALLS == 0
            return (checked if due else thing)(*arguments, **named)

        return call

    return wrap


def pytest_configure(config: pytest.Config) -> None:
    """Imports what runs tests, in processes that run any."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    hands_out = getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput")
    if not hands_out:
        config.pluginmanager.register(imported_people(), "people")


def imported_people() -> ModuleType:
    """The module of fixtures, after what has to come first."""
    for name in FIRST_IMPORTED:
        import_module(name)
    jaxtyping, torch = import_module("jaxtyping"), import_module("torch")
    whole = jaxtyping.jaxtyped
    jaxtyping.jaxtyped = lambda *, typechecker: checked_sparingly(whole(typechecker=typechecker))
    torch.set_num_threads(1)
    spec = spec_from_file_location(PEOPLE, Path(__file__).with_name("people.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[PEOPLE] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that processes end together."""
    places = {Path(__file__).parent / name: at for at, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Networks and bodies that this user has fetched change no test that does not ask for them."""
    if not any(item.get_closest_marker(name) for name in NEEDS_THE_USERS_DATA):
        os.environ["PCHMR_DATA"] = str(Path(__file__).parent / "nothing")
    elif USERS_DATA is None:
        os.environ.pop("PCHMR_DATA", None)
    else:
        os.environ["PCHMR_DATA"] = USERS_DATA
