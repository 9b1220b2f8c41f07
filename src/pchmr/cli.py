"""The verbs: parse a config, then import the room that does the work.

Importing this file imports neither torch nor numpy, so help answers at once. A `UserError` ends as
one line on standard error and exit code 2.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Union, cast

import tyro

from pchmr import config as configs
from pchmr import guide, recipes
from pchmr.config import SettingError, UserError, from_dict
from pchmr.door import FileError, read_json
from pchmr.progress import printable, say

PROGRAM = "pchmr"
READ = "`pchmr report {output}` reads what is finished"
RESUMABLE = f"{READ}, --resume goes on"
SHOWN = "any viewer opens the finished pictures and meshes in {output}"
KEPT = "`pchmr labels {labels}` says what is left"
LABELED = "`pchmr labels {output}` lists the finished clips, the same command goes on after them"
DEPLOYED = "what runs goes on: `pchmr deploy status` shows it, `pchmr deploy down` ends it"
KEPT_ON = "finished labels stay in {output}, the same command goes on after them"
NO_VERB = ([], ["--help"], ["-h"])
REVIEWED = "what was decided is kept in {labels}"
ABOUT = (
    "Human mesh recovery for people whose images must not leave their device: centralized and "
    "federated training, evaluation and local inference."
)


@dataclass(frozen=True)
class Verb:
    """A word of the command line: its config, and the function `module:name` that takes it.

    `stopped` says who reads what is finished when a person stops it.
    """

    config: type
    target: str
    stopped: str = "nothing was finished"

    def __call__(self, config: Any) -> None:
        """Imports the room and runs the config."""
        module, name = self.target.split(":")
        run: Callable[[Any], Any] = getattr(import_module(module), name)
        run(config)


VERBS: dict[str, Verb] = {
    "demo": Verb(configs.DemoConfig, "pchmr.demo:run", READ),
    "train": Verb(configs.TrainConfig, "pchmr.experiment:train", RESUMABLE),
    "federate": Verb(configs.FederateConfig, "pchmr.experiment:federate", RESUMABLE),
    "evaluate": Verb(configs.EvaluateConfig, "pchmr.experiment:evaluate", READ),
    "predict": Verb(configs.PredictConfig, "pchmr.predict:run", SHOWN),
    "annotate": Verb(configs.AnnotateConfig, "pchmr.annotate:run", LABELED),
    "labels": Verb(configs.LabelsConfig, "pchmr.annotate:manage", KEPT),
    "personalize": Verb(configs.PersonalizeConfig, "pchmr.personalize:run", KEPT_ON),
    "loop": Verb(configs.LoopConfig, "pchmr.loop:run", KEPT_ON),
    "export": Verb(configs.ExportConfig, "pchmr.device.export:run"),
    "deploy": Verb(configs.DeployConfig, "pchmr.deploy:run", DEPLOYED),
    "live": Verb(configs.LiveConfig, "pchmr.device.live:run", "the page is closed"),
    "review": Verb(configs.ReviewConfig, "pchmr.device.review:run", REVIEWED),
    "data": Verb(configs.DataConfig, "pchmr.worlds:run"),
    "report": Verb(configs.ReportConfig, "pchmr.report:run"),
    "audit": Verb(configs.AuditConfig, "pchmr.privacy.audit:run"),
    "priors": Verb(configs.PriorsConfig, "pchmr.priors:run"),
    "doctor": Verb(configs.DoctorConfig, "pchmr.doctor:run"),
    "bench": Verb(configs.BenchConfig, "pchmr.bench:run", READ),
}


def parse(arguments: Sequence[str]) -> tuple[Verb, Any]:
    """The verb and its config; `--recipe NAME` or `--config FILE` replace the defaults.

    Raises:
        SettingError: A recipe or config that does not exist or does not fit the verb.
        SystemExit: Help was asked for, or an option is unknown (code 2).
    """
    rest, defaults = _defaults(list(arguments))
    members = tuple(
        Annotated[
            verb.config,
            tyro.conf.subcommand(name, default=defaults.get(name, tyro.MISSING_NONPROP)),
        ]
        for name, verb in VERBS.items()
    )
    marks = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    words = io.StringIO()
    try:
        with redirect_stderr(words):
            chosen = tyro.cli(
                cast(Any, Union[members]),  # noqa: UP007
                prog=PROGRAM,
                description=ABOUT,
                args=rest,
                config=marks,
            )
    except SystemExit as stop:
        if error := _user_error(stop):
            raise error from None
        if stop.code:
            raise SettingError(_first_block(words.getvalue())) from None
        raise
    return next(v for v in VERBS.values() if v.config is type(chosen)), chosen


def _first_block(box: str) -> str:
    """What a boxed message says above its first rule, and where to read on."""
    said = []
    for line in box.splitlines()[1:]:
        if "──" in line:
            break
        said.append(line.strip("│ "))
    return f"{' '.join(said) or 'unreadable command line'}; see `{PROGRAM} VERB --help`"


def _user_error(error: BaseException | None) -> UserError | None:
    """The `UserError` that tyro turned into an exit, so that it can be told in one line."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def _defaults(arguments: list[str]) -> tuple[list[str], dict[str, object]]:
    """Takes `--recipe` and `--config` out of the arguments and turns them into defaults."""
    defaults: dict[str, object] = {}
    for option in ("--recipe", "--config"):
        if option not in arguments:
            continue
        position = arguments.index(option)
        if position + 1 >= len(arguments):
            raise SettingError(f"{option} needs a value")
        verb, value = arguments[0], arguments[position + 1]
        del arguments[position : position + 2]
        defaults[verb] = _recipe(value) if option == "--recipe" else _replayed(verb, Path(value))
        if verb not in VERBS or type(defaults[verb]) is not VERBS[verb].config:
            raise SettingError(f"{option} {value} does not fit the verb {verb}")
    return arguments, defaults


def _recipe(name: str) -> Any:
    if name not in recipes.RECIPES:
        raise SettingError(f"unknown recipe {name}; known: {', '.join(sorted(recipes.RECIPES))}")
    return recipes.RECIPES[name]


def _replayed(verb: str, path: Path) -> Any:
    if verb not in VERBS:
        raise SettingError(f"--config needs a verb before it: {', '.join(VERBS)}")
    try:
        values = read_json(path)
    except FileError as error:
        raise SettingError(
            f"cannot read --config {path}: {error.reason}; give the config.json of a run"
        ) from None
    return from_dict(VERBS[verb].config, values)


def _front_page(words: Sequence[str]) -> str:
    """What a command line without a verb asks for."""
    if not words:
        return guide.ways_in()
    return guide.overview(ABOUT, {name: verb.config for name, verb in VERBS.items()})


def _name_of(verb: Verb) -> str:
    return next(name for name, known in VERBS.items() if known is verb)


def _one_line(error: BaseException) -> str:
    return printable(" ".join(str(error).split()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit code (0 done, 2 the user can mend it, 130 stopped)."""
    stopped = ""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words in NO_VERB:
            print(_front_page(words))
            return 0
        verb, config = parse(words)
        stopped = "; " + verb.stopped.format(**vars(config))
        verb(config)
        if following := guide.next_command(_name_of(verb), config):
            say(f"next: {following}")
    except UserError as error:
        print(f"{PROGRAM}: {_one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno is None or error.filename is None:
            raise
        print(printable(f"{PROGRAM}: {error.filename}: {error.strerror}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: stopped{stopped}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
