"""What a person reads who has typed no verb, and the next command after one that is done.

Words only: this file imports no room that computes, so help answers at once.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pchmr import config as configs

GROUPS: dict[str, tuple[str, ...]] = {
    "Begin": ("demo", "doctor", "priors"),
    "Own photos and videos": (
        "predict",
        "live",
        "annotate",
        "labels",
        "review",
        "personalize",
        "export",
    ),
    "Train and compare": ("train", "federate", "evaluate", "loop", "report", "bench"),
    "Privacy and devices": ("deploy", "audit"),
    "Data": ("data",),
}
REST = "More"
WAYS_IN = """Three ways in:

  I have photos or a video
    pchmr priors get blazepose       once: a network that has seen photos, 9.4 MB
    pchmr predict photo.jpg          meshes of the people in it, on this machine

  I work on federated learning
    pchmr demo --quick               the whole story on rendered people, under a minute
    pchmr federate --num-clients 100 --clients-per-round 10

  I have SMPL, Human3.6M, 3DPW or EMDB files
    pchmr doctor                     what is here, and what each file would enable
    pchmr data import 3dpw SRC DST   then --data DST in train, federate, evaluate
"""


def ways_in() -> str:
    """The answer to `pchmr` alone."""
    return f"{WAYS_IN}\nAll verbs: pchmr --help. One verb: pchmr VERB --help."


def overview(about: str, verbs: Mapping[str, type]) -> str:
    """The answer to `pchmr --help`: every verb once, by what a person wants.

    Args:
        about: What the program is for.
        verbs: Config of each verb; the first line of its docstring tells of it.
    """
    grouped = {name for names in GROUPS.values() for name in names}
    groups = {**GROUPS, REST: tuple(name for name in verbs if name not in grouped)}
    lines = [f"usage: pchmr VERB [options]\n\n{about}"]
    for title, names in groups.items():
        told = [f"  {name:<12} {_first_line(verbs[name])}" for name in names if name in verbs]
        if told:
            lines.append("\n".join([f"{title}:", *told]))
    lines.append("`pchmr VERB --help` lists the options of a verb.")
    return "\n\n".join(lines)


def _first_line(config: type) -> str:
    return (config.__doc__ or "").strip().splitlines()[0]


def _report(config: Any) -> str:
    return f"pchmr report {config.output}"


def _after_priors(config: configs.PriorsConfig) -> str:
    return "pchmr predict PHOTO" if config.task == "get" else "pchmr priors get blazepose"


def _after_personalize(config: configs.PersonalizeConfig) -> str:
    own = config.output / "model.safetensors"
    model = own if own.is_file() else config.output / "users" / "USER" / "model.safetensors"
    return f"pchmr predict PHOTO --checkpoint {model}"


def _after_live(config: configs.LiveConfig) -> str:
    """No picture of a camera is kept, so there is none to name."""
    is_file = config.source is not None and not config.source.isdecimal()
    return f"pchmr annotate {config.source if is_file else 'PHOTOS'} --output labels"


def _after_deploy(config: configs.DeployConfig) -> str:
    """What the operator types next; a device's owner, how to end it."""
    folder, data = config.name or config.folder, config.data
    where = f" {folder}" if folder is not None else ""
    device = f" {config.folder}" if config.folder else f" --data {data or 'DATA'}"
    return {
        "init": f"pchmr deploy up{where}",
        "up": "pchmr deploy invite NAME",
        "invite": "pchmr deploy status",
        "join": f"pchmr deploy down{device}",
        "run": "pchmr deploy status",
        "status": "pchmr deploy run",
        "down": "pchmr deploy join INVITE --data DATA" if data else f"pchmr deploy up{where}",
        "withdraw": "pchmr deploy join INVITE --data DATA",
    }[config.task]


def _after_data(config: configs.DataConfig) -> str | None:
    """Nothing after `synth` and `import`, which name the size of the pictures that they wrote."""
    if config.task == "partition":
        options = f"--partition {config.partition} --num-clients {config.num_clients}"
        return f"pchmr federate {options}"
    if config.task == "check":
        return f"pchmr train --data {config.arguments[0]}" if config.arguments else "pchmr train"
    return None


NEXT: dict[str, Callable[[Any], str | None]] = {
    "demo": lambda config: "pchmr federate --partition dirichlet --num-clients 100",
    "train": _report,
    "federate": _report,
    "evaluate": _report,
    "predict": lambda config: f"pchmr annotate {config.images} --output labels",
    "annotate": lambda config: f"pchmr labels {config.output}",
    "labels": lambda config: f"pchmr train --data {config.labels}",
    "review": lambda config: f"pchmr train --data {config.labels}",
    "live": _after_live,
    "personalize": _after_personalize,
    "loop": lambda config: f"pchmr personalize --images {config.images}",
    "deploy": _after_deploy,
    "audit": lambda config: "pchmr federate --aggregation secure",
    "export": lambda config: f"pchmr predict PHOTO, or read {config.output / 'card.json'}",
    "data": _after_data,
    "report": lambda config: f"open {config.output} in a browser",
    "priors": _after_priors,
    "doctor": lambda config: "pchmr demo --quick",
    "bench": lambda config: f"pchmr report {config.output}",
}


def next_command(verb: str, config: Any) -> str | None:
    """What to type after a verb that is done; nothing for a verb that this file does not know."""
    follows = NEXT.get(verb)
    return follows(config) if follows else None
