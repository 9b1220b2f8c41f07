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
    "live",
    "live clip.mp4 --native",
    "audit runs/federate --view plain",
    "review labels",
    "deploy init fed",
    "deploy up fed",
    "deploy invite ward",
    "deploy join ward.invite --data people",
    "deploy join ward.invite --data people --folder keys",
    "deploy run fed",
    "deploy status fed",
    "deploy down fed",
    "deploy down --data people",
    "deploy withdraw --data people",
)
NO_COMMAND = ("export", "report runs")  # a file to open follows
SAY_IT_THEMSELVES = ("data synth --output people", "data import 3dpw SRC DST")


@pytest.mark.parametrize("line", TYPED)
def test_the_next_command_parses(line: str) -> None:
    verb, config = cli.parse(line.split())
    following = guide.next_command(line.split()[0], config)
    assert following is not None
    assert following.startswith("pchmr ")
    cli.parse(shlex.split(following)[1:])
    assert verb is cli.VERBS[line.split()[0]]


def test_every_verb_is_tried() -> None:
    tried = {line.split()[0] for line in (*TYPED, *NO_COMMAND)}
    assert tried == set(cli.VERBS) == set(guide.NEXT)


@pytest.mark.parametrize("line", (*TYPED, *NO_COMMAND))
def test_the_last_line_of_every_verb_is_what_comes_next(line: str, capsys, monkeypatch) -> None:
    monkeypatch.setattr(cli.Verb, "__call__", lambda verb, config: print("done"))
    assert cli.main(line.split()) == 0
    assert re.match(r"next: \S+ \S+", capsys.readouterr().err.splitlines()[-1])


@pytest.mark.parametrize("line", SAY_IT_THEMSELVES)
def test_what_knows_more_than_the_settings_says_it_itself(line: str) -> None:
    _, config = cli.parse(line.split())
    assert guide.next_command("data", config) is None


def test_rendered_people_are_trained_on_at_their_size(tmp_path, capsys) -> None:
    world = ["--num-samples", "1", "--num-test-samples", "1", "--image-size", "32"]
    assert cli.main(["data", "synth", "--output", str(tmp_path / "people"), *world]) == 0
    following = capsys.readouterr().err.splitlines()[-1].removeprefix("next: ")
    _, config = cli.parse(shlex.split(following)[1:])
    assert config.data_options.data == tmp_path / "people"
    assert config.data_options.image_size == 32
