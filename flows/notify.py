"""Send a line to a webhook when a run on the Prefect server fails: `python -m flows.notify URL`.

It makes an automation in the server, which goes on without this program. The line says which run, where, why, and the
command that goes on; it is sent as `{"text": LINE}`, which Slack, Mattermost and most others take.

Another ends runs as crashed whose heart has stopped, for a process that was killed cannot say so: those of processes
that have PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30 in their environment (docs/monitoring.md).
"""

import argparse
import sys
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

# isort: split
from prefect.automations import Automation
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.server import LOCAL_SERVER, answers

NAME = "failures"
SILENT = "silent runs"
HEARTBEAT, PATIENCE = "prefect.flow-run.heartbeat", timedelta(seconds=90)
"""A run tells it every 30 seconds."""
GONE = "not heard any more: its process was killed, or its machine is gone; the same command goes on"
BODY = "{{ flow_run.name }} {{ flow_run.state.name }} ({{ flow_run.tags | join(', ') }}): {{ flow_run.state.message }}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m flows.notify",
        description=(__doc__ or "").partition("\n")[0],
        epilog="example: python -m flows.notify https://hooks.slack.com/services/...",
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="the webhook; another replaces the one before")
    parser.add_argument("--remove", action="store_true", help="send no more")
    arguments = parser.parse_args()
    if bool(arguments.url) == arguments.remove:
        parser.error("give a URL, or --remove")
    if arguments.url and urlsplit(arguments.url).scheme not in ("http", "https"):
        sys.exit(f"{arguments.url}: not a URL; it begins with https:// or http://")
    api = PREFECT_API_URL.value() or LOCAL_SERVER
    if not answers(api):
        sys.exit(f"no Prefect server answers at {api}; start one: python -m flows.server")
    with temporary_settings({PREFECT_API_URL: api}):
        remove()
        if arguments.url:
            create(arguments.url)
    print("failures are no longer sent" if arguments.remove else f"failures are sent to {arguments.url}")


def create(url: str) -> None:
    """The automations: each run, of a stage or a pipeline, that fails or crashes sends one line to `url`.

    And one that is not heard any more has crashed.
    """
    webhook = CustomWebhookNotificationBlock.model_validate(
        {"name": NAME, "url": url, "json_data": {"text": "{{body}}"}}
    )
    block = UUID(str(webhook.save(NAME, overwrite=True)))
    Automation(
        name=NAME,
        description="Sends a line to a webhook when a run fails (python -m flows.notify).",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[SendNotification(block_document_id=block, subject=NAME, body=BODY)],
    ).create()
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    Automation(
        name=SILENT,
        description="Ends runs as crashed whose heart has stopped (python -m flows.notify).",
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *ends},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=PATIENCE,
        ),
        actions=[ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=GONE, force=True)],
    ).create()


def remove() -> None:
    """Take away what an earlier call made."""
    with get_client(sync_client=True) as client:
        for name in (NAME, SILENT):
            for automation in client.read_automations_by_name(name):
                client.delete_automation(automation.id)


if __name__ == "__main__":
    main()
