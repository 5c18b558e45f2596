"""The deployment files say what their readers, Ray, AWS and KubeRay, accept, and commands that gazepack has.

Ray checks its own file, and AWS's description of its interface comes with botocore. KubeRay's schema is no
part of any package, so a strict one of the fields in use stands in for it here;
`GAZEPACK_KUBERAY_CRD=PATH/OF/ray.io_rayjobs.yaml` checks against KubeRay's own.
"""

import json
import os
import shlex
import subprocess
import warnings
from pathlib import Path
from typing import Any

import botocore.session
import click
import jsonschema
import pytest
import yaml
from botocore.validate import ParamValidator

from gazepack.cli.pack import pack

DEPLOY = Path(__file__).parents[2] / "deploy"


def load(name: str) -> dict[str, Any]:
    value = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    assert isinstance(value, dict)
    return value


def rayjob_schema() -> dict[str, Any]:
    schema = json.loads((Path(__file__).parent / "rayjob.schema.json").read_text(encoding="utf-8"))
    assert isinstance(schema, dict)
    return schema


@pytest.fixture(scope="module")
def kuberay_schema() -> dict[str, Any]:
    """KubeRay's own definition of a RayJob, in which a field that it does not know is an error."""
    if not (place := os.environ.get("GAZEPACK_KUBERAY_CRD")):
        pytest.skip("no definition of KubeRay; set GAZEPACK_KUBERAY_CRD to its ray.io_rayjobs.yaml")
    definition = yaml.load(Path(place).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    assert definition["spec"]["names"]["kind"] == "RayJob"
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    assert isinstance(schema, dict)
    return schema


def strict(schema: Any) -> Any:
    """Refuse fields that a schema does not name, where it names any, as `kubectl --validate=strict` does."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(part) for name, part in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        found.setdefault("additionalProperties", False)
    return found


def prepared(cluster: dict[str, Any]) -> dict[str, Any]:
    """Return a cluster as `ray up` sees it, with Ray's defaults for AWS where it says nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ray's own, at import
        from ray.autoscaler._private.util import prepare_config, validate_config

    found = prepare_config(cluster)
    validate_config(found)
    assert isinstance(found, dict)
    return found


def aws_problems(node_type: dict[str, Any]) -> str:
    """Return what AWS would refuse of a machine: fields that it does not know, and values of other types."""
    ec2 = botocore.session.get_session().get_service_model("ec2")
    asked = {**node_type["node_config"], "MinCount": 1, "MaxCount": 1}
    shape = ec2.operation_model("RunInstances").input_shape
    report: str = ParamValidator().validate(asked, shape).generate_report()
    return report


def test_the_cluster_is_one_that_ray_accepts() -> None:
    """deploy/ray-cluster.yaml passes the checks of `ray up`; its head takes no work."""
    cluster = prepared(load("ray-cluster.yaml"))
    assert cluster["available_node_types"]["head"]["resources"]["CPU"] == 0
    cluster["head_node_type"] = "nobody"
    with pytest.raises(ValueError, match="available_node_types"):
        prepared(cluster)


def test_nothing_is_installed_on_machines_that_cost() -> None:
    """No command of setup is left once Ray's defaults are in; they would be, if the file did not say so."""
    names = ("setup_commands", "head_setup_commands", "worker_setup_commands")
    cluster = load("ray-cluster.yaml")
    assert [prepared(cluster)[name] for name in names] == [[], [], []]
    silent = {name: value for name, value in cluster.items() if name not in names}
    assert all(prepared(silent)[name] for name in names)


@pytest.mark.parametrize("name", ["head", "packer"])
def test_machines_are_what_aws_accepts(name: str) -> None:
    """Each node_config is a call of RunInstances with an image, a disk and a role; a misspelt one is not."""
    machine = load("ray-cluster.yaml")["available_node_types"][name]
    assert aws_problems(machine) == ""
    assert {"ImageId", "BlockDeviceMappings", "IamInstanceProfile"} <= machine["node_config"].keys()
    machine["node_config"]["IamInstanceProfile"] = {"name": "x"}
    assert "name" in aws_problems(machine)


def test_the_job_is_one_that_kuberay_accepts() -> None:
    """deploy/rayjob.yaml fits the fields of RayJob as KubeRay documents them."""
    jsonschema.validate(load("rayjob.yaml"), rayjob_schema())


def test_the_job_fits_the_definition_of_kuberay(kuberay_schema: dict[str, Any]) -> None:
    """The same by KubeRay's own definition, whose rules in CEL are not run; a misspelt field does not fit."""
    job = load("rayjob.yaml")
    jsonschema.validate(job, kuberay_schema)
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxreplicas"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxreplicas"):
        jsonschema.validate(job, kuberay_schema)


def test_a_misspelt_field_is_refused() -> None:
    """Neither the check of the cluster nor that of the job passes what does not exist."""
    cluster = load("ray-cluster.yaml")
    cluster["clusterName"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="clusterName"):
        prepared(cluster)
    job = load("rayjob.yaml")
    job["spec"]["backofflimit"] = 3
    with pytest.raises(jsonschema.ValidationError, match="backofflimit"):
        jsonschema.validate(job, rayjob_schema())


def entrypoint_of(job: dict[str, Any]) -> str:
    """Return the line that a shell on the head runs."""
    shell, flag, line = shlex.split(job["spec"]["entrypoint"])
    assert (shell, flag) == ("bash", "-c")
    return line


def test_the_job_runs_a_command_that_exists() -> None:
    """The entrypoint is parsed by the very command it names, and asks for no more than a node has."""
    job = load("rayjob.yaml")
    line, _, _ = entrypoint_of(job).partition(" || ")
    program, command, *arguments = shlex.split(line)
    assert (program, command) == ("gazepack", "pack")
    values = pack.make_context("pack", arguments).params
    assert isinstance(values["workers"], tuple)
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    asked = group["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert values["workers"][1] <= group["maxReplicas"]
    assert values["cpus_per_worker"] < int(asked["cpu"])
    assert values["gpus_per_worker"] <= int(asked["nvidia.com/gpu"])


@pytest.mark.parametrize(("code", "left"), [(0, 0), (1, 1), (2, 1), (3, 0), (130, 1)])
def test_the_job_is_tried_again_only_where_that_helps(code: int, left: int, tmp_path: Path) -> None:
    """A run that is done, also but for some videos, ends the job; an interrupted one is tried again."""
    program = tmp_path / "gazepack"
    program.write_text(f"#!/bin/sh\nexit {code}\n")
    program.chmod(0o755)
    # as Ray does: the words that the submitter's shell made of the entrypoint, joined for the head's
    line = shlex.join(shlex.split(load("rayjob.yaml")["spec"]["entrypoint"]))
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert subprocess.run(line, shell=True, env=environment).returncode == left  # noqa: S602 (ours)


def test_the_comment_of_the_cluster_is_a_command_that_exists() -> None:
    """What deploy/ray-cluster.yaml tells to submit is what `submit` takes, for the machines that it lists."""
    text = (DEPLOY / "ray-cluster.yaml").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("#   gazepack submit ")]
    _, _, _, *arguments = shlex.split(line)
    values = pack.make_context("pack", arguments).params
    packer = load("ray-cluster.yaml")["available_node_types"]["packer"]
    assert values["workers"] == (1, packer["max_workers"])
    assert values["cpus_per_worker"] < packer["resources"]["CPU"]
    assert values["gpus_per_worker"] == packer["resources"]["GPU"]


def test_a_command_that_does_not_exist_is_refused() -> None:
    """The check above can fail."""
    with pytest.raises(click.UsageError, match="No such option"):
        pack.make_context("pack", ["videos", "--out", "x", "--no-such-option"])
