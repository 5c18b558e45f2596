"""The deployment files say what their readers, Ray and KubeRay, accept, and commands that gazepack has.

Ray's schema comes with Ray. KubeRay's is no part of any package, so a strict one of the fields in use stands in
for it here; `GAZEPACK_KUBERAY_CRD=PATH/OF/ray.io_rayjobs.yaml` checks against KubeRay's own.
"""

import json
import os
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


def test_the_cluster_is_one_that_ray_accepts() -> None:
    """deploy/ray-cluster.yaml fits Ray's own schema, and its head is one of its node types."""
    cluster = load("ray-cluster.yaml")
    jsonschema.validate(cluster, ray_schema())
    assert cluster["head_node_type"] in cluster["available_node_types"]
    assert cluster["available_node_types"]["head"]["resources"]["CPU"] == 0


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
