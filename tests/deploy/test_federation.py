"""Five devices and a server as real processes on loopback: same result, faults, capture, the end.

The tests share one federation and go on in the order in which they stand. `make test-deploy` runs
them all, in eight minutes on two quiet cores; the slow ones can be left out, the others cannot.
"""

import ssl
from collections import defaultdict
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from lab import Lab, until
from relay import Relay, size_but_for_the_node

from pchmr.body import BodyModel
from pchmr.config import DeployConfig
from pchmr.data.synthetic import SyntheticPeople
from pchmr.deploy import processes, running
from pchmr.deploy.bundle import CLIENT_CODE, make_bundle, make_signer, read_bundle
from pchmr.deploy.federation import roster_of
from pchmr.federated.flower.control import COMPLETED
from pchmr.federated.secure import encoding
from pchmr.privacy.tripwire import Canary, Tripwire

pytestmark = pytest.mark.deploy
DEVICES = [0, 1, 2, 3, 4]
SCRATCH = ("--from-scratch",)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, body: BodyModel) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab"), body)
    for number in DEVICES:
        made.render(number)
    made.ok("init", made.fed, "--num-rounds", 3, "--image-size", 64, "--port", made.port)
    made.ok("up", made.fed)
    yield made
    made.deploy("down", made.fed)


@pytest.fixture(scope="module")
def relay(lab: Lab) -> Iterator[Relay]:
    made = Relay(lab.fed, lab.port)
    for number in DEVICES:
        lab.join(number, made.port)
    yield made
    made.close()


def test_a_plain_run_over_tls_ends_in_the_same_model_as_in_one_process(lab: Lab, relay: Relay):
    said = lab.ok("run", lab.fed)
    assert "round 3: 5 of 5 clients" in said
    assert lab.summary()["model_sha256"] == lab.in_process(DEVICES)[0]
    for row in lab.run_folder().read_rows():
        assert row["quarantined"] == [] and row["cohort"] == DEVICES


def test_who_is_neither_operator_nor_device_is_shut_out(lab: Lab, relay: Relay):
    context = ssl.create_default_context(cafile=str(lab.fed / "ca.crt"))
    for path in ("/v1/control/list-runs", "/v1/control/start-run", "/v1/fleet/register-node"):
        connection = HTTPSConnection("localhost", lab.port, context=context)
        connection.request("POST", path, b"", {"Content-Type": "application/x-protobuf"})
        assert connection.getresponse().status == 403, path
        connection.close()


def test_no_canary_leaves_a_device_and_sizes_tell_nothing(lab: Lab, relay: Relay):
    people = SyntheticPeople.open(lab.people(0) / "train")
    image, sample = people.image(0), people.batch([0])
    wire = Tripwire(
        [
            Canary("picture", np.ascontiguousarray(image[24:40, 24:40])),
            Canary("keypoints", sample.keypoints_2d[0].double().numpy()),
            Canary("betas", sample.betas[0].double().numpy()),
            Canary("name", lab.people(0).name),
        ]
    )
    asked = relay.requests()
    assert wire.search(b"x" + lab.people(0).name.encode())  # it would be found
    assert sum(len(body) for _, _, body in asked) > 5 * 3 * 4 * 10**6
    assert not [path for path, _, body in asked if wire.search(body)]
    assert not wire.search_files(lab.fed)
    sizes: dict[str, list[int]] = defaultdict(list)
    for path, key, body in asked:
        if path == "/v1/fleet/push-object":
            sizes[key].append(size_but_for_the_node(body))
    assert len(sizes) == len(DEVICES)
    assert len({tuple(sorted(found)) for found in sizes.values()}) == 1, sizes


@pytest.mark.slow
def test_another_roster_is_refused_and_the_right_one_is_pinned(lab: Lab, relay: Relay):
    right = roster_of(lab.federation.devices).fingerprint.hex()
    assert right in lab.ok("status", lab.fed)
    invite = lab.fed / "d0.invite"
    refused = lab.deploy("join", invite, "--data", lab.people(0), "--roster", "00" * 32)
    assert refused.returncode == 2 and "compare again with the operator" in refused.stderr
    for number in DEVICES:
        invite = lab.fed / f"d{number}.invite"
        lab.ok("join", invite, "--data", lab.people(number), "--roster", right)


@pytest.mark.slow
def test_a_secure_run_over_tls_opens_the_same_sums(lab: Lab, relay: Relay, monkeypatch):
    lab.ok("run", lab.fed, "--aggregation", "secure")
    monkeypatch.setattr(encoding, "os", SimpleNamespace(urandom=bytes))
    found, rows = lab.in_process(DEVICES)
    assert lab.summary()["model_sha256"] == found
    for row, other in zip(lab.run_folder().read_rows(), rows, strict=True):
        assert row["sum"] == other["sum"] and row["sum"]["survivors"] == 5


@pytest.mark.slow
def test_a_device_killed_after_masking_costs_the_sum_nothing(lab: Lab, relay: Relay, monkeypatch):
    log = lab.device(4) / "live" / "log.txt"
    before = log.read_text().count("Sending: train.sa_masked")
    words = ("--aggregation", "secure", "--seed", 3, "--num-rounds", 1, *SCRATCH)
    running = lab.begin("run", lab.fed, *words)
    until(lambda: log.read_text().count("Sending: train.sa_masked") > before)
    until(lambda: log.read_text().rstrip().endswith("Sent successfully"))
    lab.kill(lab.device(4))
    said, _ = running.communicate()
    assert running.returncode == 0, said
    monkeypatch.setattr(encoding, "os", SimpleNamespace(urandom=bytes))
    found, _ = lab.in_process(DEVICES)
    assert lab.summary()["model_sha256"] == found
    (row,) = lab.run_folder().read_rows()
    assert row["sum"]["survivors"] == 5
    assert {entry["client_id"] for entry in row["quarantined"]} == {4}
    lab.ok("join", lab.fed / "d4.invite", "--data", lab.people(4))


@pytest.mark.slow
def test_a_torn_network_and_a_killed_server_change_nothing(lab: Lab, relay: Relay):
    for device in DEVICES:
        lab.allow_plain(device)
    number = len(lab.federation.run_folders)
    running = lab.begin("run", lab.fed, "--seed", 5, "--num-rounds", 2, *SCRATCH)
    until(lambda: len(lab.federation.run_folders) > number)
    until(lambda: len(lab.run_folder().read_rows()) == 1)
    lab.kill(lab.fed)
    said, _ = running.communicate()
    assert running.returncode == 2 and said.strip().count("\n") <= 3, said
    lab.ok("up", lab.fed)
    log = lab.device(0) / "live" / "log.txt"
    asked = log.read_text().count("Receiving: train")
    going_on = lab.begin("run", lab.fed, "--resume")
    until(lambda: log.read_text().count("Receiving: train") > asked)
    relay.reset()
    said, _ = going_on.communicate()
    assert going_on.returncode == 0, said
    rows = lab.run_folder().read_rows()
    assert [row["round"] for row in rows] == [1, 2]
    assert [row["quarantined"] for row in rows] == [[], []]
    assert lab.summary()["model_sha256"] == lab.in_process(DEVICES)[0]


@pytest.mark.slow
def test_a_task_that_the_network_lost_is_handed_out_again(lab: Lab, relay: Relay):
    relay.to_lose = 1
    lab.ok("run", lab.fed, "--seed", 6, "--num-rounds", 1, *SCRATCH)
    assert relay.lost == 1
    (row,) = lab.run_folder().read_rows()
    assert row["quarantined"] == [] and sorted(row["cohort"]) == DEVICES
    assert lab.summary()["model_sha256"] == lab.in_process(DEVICES)[0]


@pytest.mark.slow
def test_no_device_runs_a_bundle_that_the_operator_did_not_sign(
    lab: Lab, relay: Relay, tmp_path: Path
):
    signature = lab.fed / "bundle.sig"
    kept = signature.read_bytes()
    signature.write_text("{}")
    refused = lab.deploy("run", lab.fed)
    assert refused.returncode == 2 and "is not signed" in refused.stderr
    signature.write_bytes(kept)
    make_signer(tmp_path)  # somebody else's key, and code of their own: the same would be signed
    make_bundle(tmp_path, client=f"{CLIENT_CODE}# another\n")
    config = DeployConfig(task="run", name=lab.fed, num_rounds=1, seed=7)
    folder = running._folder(config, lab.federation)
    with running.connected(lab.federation) as control:
        state = control.wait(control.start(read_bundle(tmp_path), {"run": folder.path.name}))
    assert state.ending != COMPLETED
    (row,) = folder.read_rows()
    assert {found["reason"] for found in row["quarantined"]} == {"bundle"} and not row["changed"]


@pytest.mark.slow
def test_status_shows_pseudonyms_and_reasons_and_nobody(lab: Lab, relay: Relay):
    said = lab.ok("status", lab.fed, "--page")
    for device in lab.federation.devices:
        assert device.pseudonym in said
    page = (lab.fed / "status.html").read_text()
    for text in (said, page):
        assert "run-001: finished, 3 rounds" in text and "no differential privacy" in text
        assert lab.people(0).name not in text and "d0" not in text.split()


@pytest.mark.slow
def test_who_withdraws_is_gone_and_learns_which_models_stay(lab: Lab, relay: Relay):
    first = lab.federation.run_folders[0].name
    said = lab.ok("withdraw", lab.device(4))
    assert f"not unlearned: {first}, sha256" in said
    assert not lab.device(4).exists()
    assert lab.federation.devices[4].has_left
    assert not processes.marked(lab.federation.authority, lab.device(4))
    lab.ok("run", lab.fed, "--seed", 9, "--num-rounds", 1, *SCRATCH)
    assert lab.run_folder().read_rows()[0]["cohort"] == [0, 1, 2, 3]


@pytest.mark.slow
def test_down_leaves_no_process_no_port_and_no_file(lab: Lab, relay: Relay):
    mark, before = lab.federation.authority, set(lab.fed.rglob("*"))
    assert processes.marked(mark)
    lab.ok("down", lab.fed)
    assert not processes.marked(mark)
    assert processes.is_free("127.0.0.1", lab.port)
    left = set(lab.fed.rglob("*"))
    assert not {path for path in left if {"live", "tmp"} & set(path.parts[-3:])}
    assert left <= before and not list(lab.fed.glob("state.db-*"))
    for number in (0, 1, 2, 3):
        assert not (lab.device(number) / "live").exists()
