"""Register what prefect.yaml names with the Prefect server of PREFECT_API_URL: work pools and deployments.

In the place of `prefect deploy --all`, which Prefect 3.8.8 ends with an error after the first (docs/many-machines.md).
"""

import os
import sys
from contextlib import suppress
from typing import Any

import flows.show  # noqa: F401  first of all, for it sets Prefect up

# isort: split
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from flows.server import answers
from ldm.config import load


def deploy(client: SyncPrefectClient, wanted: dict[str, Any], pull: list[dict[str, Any]]) -> str:
    """Make the deployment `wanted`, an entry of prefect.yaml, and its work pool, or bring them up to date; its name."""
    pool = wanted["work_pool"]["name"]
    template = ProcessWorker.get_default_base_job_template()
    with suppress(ObjectAlreadyExists):  # of whatever type: its owner may have made it for Kubernetes
        client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
    made: Flow[..., Any] = load_flow_from_entrypoint(wanted["entrypoint"])
    client.create_deployment(
        client.create_flow(made),
        wanted["name"],
        description=wanted["description"],
        entrypoint=wanted["entrypoint"],
        parameters=wanted.get("parameters", {}),
        parameter_openapi_schema=parameter_schema(made).model_dump(),
        pull_steps=pull,
        work_pool_name=pool,
    )
    return f"{made.name}/{wanted['name']}"


def main() -> None:
    api = os.environ.get("PREFECT_API_URL", "")
    if not answers(api):
        sys.exit(f"deploy: no Prefect server answers at PREFECT_API_URL={api or '(unset)'}")
    project = load("prefect.yaml")
    with SyncPrefectClient(api) as client:
        for wanted in project["deployments"]:
            print(f"{deploy(client, wanted, project['pull'])}: on the work pool {wanted['work_pool']['name']}")


if __name__ == "__main__":
    main()
