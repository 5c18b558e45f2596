"""The deployment files say what their readers, Ray and KubeRay, accept, and commands that gazepack has."""

import json
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from gazepack.cli.pack import pack

DEPLOY = Path(__file__).parents[2] / "deploy"


def load(name: str) -> dict[str, Any]:
    value = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    assert isinstance(value, dict)
    return value


def ray_schema() -> dict[str, Any]:
    """Return the schema that `ray up` itself checks a cluster with."""
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "autoscaler" / "ray-schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(schema, dict)
    return schema


def rayjob_schema() -> dict[str, Any]:
    schema = json.loads((Path(__file__).parent / "rayjob.schema.json").read_text(encoding="utf-8"))
    assert isinstance(schema, dict)
    return schema


def test_the_cluster_is_one_that_ray_accepts() -> None:
    """deploy/ray-cluster.yaml fits Ray's own schema, and its head is one of its node types."""
    cluster = load("ray-cluster.yaml")
    jsonschema.validate(cluster, ray_schema())
    assert cluster["head_node_type"] in cluster["available_node_types"]
    assert cluster["available_node_types"]["head"]["resources"]["CPU"] == 0


def test_the_job_is_one_that_kuberay_accepts() -> None:
    """deploy/rayjob.yaml fits the fields of RayJob as KubeRay documents them."""
    jsonschema.validate(load("rayjob.yaml"), rayjob_schema())


@pytest.mark.parametrize("name", ["ray-cluster.yaml", "rayjob.yaml"])
def test_the_schemas_refuse_what_does_not_exist(name: str) -> None:
    """A misspelt field does not pass either check."""
    value = load(name)
    schema = ray_schema() if name == "ray-cluster.yaml" else rayjob_schema()
    value["clusterName"] = value["max_workers"] = "x"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, schema)


def test_the_job_runs_a_command_that_exists() -> None:
    """The entrypoint is parsed by the very command it names, and asks for no more than a node has."""
    job = load("rayjob.yaml")["spec"]
    program, command, *arguments = shlex.split(job["entrypoint"])
    assert (program, command) == ("gazepack", "pack")
    values = pack.make_context("pack", arguments).params
    assert isinstance(values["workers"], tuple)
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    asked = group["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert values["workers"][1] <= group["maxReplicas"]
    assert values["cpus_per_worker"] < int(asked["cpu"])
    assert values["gpus_per_worker"] <= int(asked["nvidia.com/gpu"])


def test_a_command_that_does_not_exist_is_refused() -> None:
    """The check above can fail."""
    with pytest.raises(click.UsageError, match="No such option"):
        pack.make_context("pack", ["videos", "--out", "x", "--no-such-option"])
