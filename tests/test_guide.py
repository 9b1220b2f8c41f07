"""The words before and after a command: true, complete, and made of commands that parse."""

import re
import shlex

import pytest

from pchmr import cli, guide


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_no_verb_is_a_question_not_a_mistake(words, capsys) -> None:
    assert cli.main(words) == 0
    assert "pchmr" in capsys.readouterr().out


def test_the_ways_in_are_commands_that_parse(capsys) -> None:
    cli.main([])
    told = capsys.readouterr().out
    commands = re.findall(r"^ {4}(pchmr .*?)(?: {2,}|$)", told, flags=re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        cli.parse(shlex.split(command)[1:])


def test_help_names_every_verb_once_and_in_a_group() -> None:
    verbs = {name: verb.config for name, verb in cli.VERBS.items()}
    told = guide.overview("about", verbs)
    for name in verbs:
        assert len(re.findall(rf"^  {name} ", told, flags=re.MULTILINE)) == 1
    assert guide.REST not in told


def test_a_verb_that_no_group_knows_is_still_listed() -> None:
    class NewConfig:
        """Do something new."""

    assert re.search(
        rf"{guide.REST}:\n  new .*Do something new\.", guide.overview("", {"new": NewConfig})
    )


TYPED = (
    "train",
    "federate",
    "evaluate",
    "predict photo.jpg",
    "annotate photo.jpg",
    "labels labels",
    "personalize --images photos --output own",
    "loop --images root",
    "data check",
    "data check imported",
    "data partition",
    "priors get blazepose",
    "priors list",
    "doctor",
    "bench people",
    "demo",
)


@pytest.mark.parametrize("line", TYPED)
def test_the_next_command_parses(line: str) -> None:
    verb, config = cli.parse(line.split())
    following = guide.next_command(line.split()[0], config)
    assert following is not None
    assert following.startswith("pchmr ")
    cli.parse(shlex.split(following)[1:])
    assert verb is cli.VERBS[line.split()[0]]


def test_every_verb_says_what_comes_next(tmp_path, capsys) -> None:
    assert set(cli.VERBS) <= set(guide.NEXT)
    assert cli.main(["priors", "list"]) == 0
    assert capsys.readouterr().err.strip().endswith("pchmr priors get blazepose")
