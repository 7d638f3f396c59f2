"""`fleek webhooks`: endpoints that receive events, and the log of deliveries."""

import time
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from fleek.cli.exit_codes import Exit
from fleek.cli.options import Session, command, connected
from fleek.cli.screen import Screen
from fleek.domain.webhooks import DeliveryState

if TYPE_CHECKING:
    from fleek.client.models import DeliveryRead, EndpointRead
    from fleek.client.wire_model import WireModel

TEST_SECONDS: Final = 30.0  # for the outcome of a test: an attempt takes 15 at most
LOOK_SECONDS: Final = 0.2

app = typer.Typer()
webhooks = typer.Typer(no_args_is_help=True)
app.add_typer(
    webhooks, name="webhooks", help="Endpoints that receive events, and the log of deliveries."
)

EndpointId = Annotated[UUID, typer.Argument(metavar="ID", help="The endpoint's id.")]
EndpointIds = Annotated[list[UUID], typer.Argument(metavar="ID", help="The endpoints' ids.")]
DeliveryIds = Annotated[
    list[str], typer.Argument(metavar="ID", help="The deliveries' ids: msg_….")
]


@command(webhooks, "list", session=connected)
def list_endpoints(*, session: Session) -> None:
    """List the endpoints: id, state, address, events."""
    found = session.client.webhooks.endpoints()
    if session.screen.as_json:
        session.screen.json([_document(endpoint) for endpoint in found])
        return
    for endpoint in found:
        _write_endpoint(session.screen, endpoint)
    if not found:
        session.screen.note("There are no endpoints.")


@command(webhooks, "create", session=connected)
def create(
    address: Annotated[str, typer.Argument(metavar="URL", help="Where webhooks are sent.")],
    *,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event",
            "-e",
            metavar="TYPE",
            help="An event that it receives: -e job.started. May be given several times. "
            "Default: those that end a job.",
        ),
    ] = None,
    description: Annotated[str | None, typer.Option(help="Anything, for you.")] = None,
    session: Session,
) -> None:
    """Create an endpoint; write its id and its secret, which is not shown again."""
    made = session.client.webhooks.create(address, events=event or None, description=description)
    if session.screen.as_json:
        session.screen.json(_document(made))
    else:
        session.screen.data(made.id, made.secret)
    session.screen.note("Keep the secret: it verifies webhooks, and is not shown again.")


@command(webhooks, "enable", session=connected)
def enable(endpoint_ids: EndpointIds, *, session: Session) -> None:
    """Enable endpoints that were disabled; their failures are forgotten."""
    for endpoint_id in endpoint_ids:
        changed = session.client.webhooks.update(endpoint_id, enabled=True)
        _write(session.screen, changed, changed.id, _state(changed))


@command(webhooks, "rotate", session=connected)
def rotate(endpoint_id: EndpointId, *, session: Session) -> None:
    """Replace the secret of an endpoint and write the new one; the old one signs for another day."""
    secret = session.client.webhooks.rotate(endpoint_id)
    if session.screen.as_json:
        session.screen.json({"secret": secret})
    else:
        session.screen.data(secret)


@command(webhooks, "delete", session=connected)
def delete(endpoint_ids: EndpointIds, *, session: Session) -> None:
    """Delete endpoints; what is pending for them is given up."""
    for endpoint_id in endpoint_ids:
        deleted = session.client.webhooks.delete(endpoint_id)
        _write(session.screen, deleted, deleted.id, "deleted")


@command(webhooks, "test", session=connected)
def test(endpoint_id: EndpointId, *, session: Session) -> None:
    """Send a test to an endpoint and write what came of it; exit code 1 if it was not accepted."""
    client = session.client.webhooks
    delivery: DeliveryRead = client.test(endpoint_id)
    until = time.monotonic() + TEST_SECONDS
    while delivery.state is DeliveryState.PENDING and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        delivery = client.delivery(delivery.id)
    _write_delivery(session.screen, delivery)
    if delivery.state is DeliveryState.PENDING:
        session.screen.warn("It has not been sent yet: does a worker run?")
        raise typer.Exit(Exit.TIMED_OUT)
    good = delivery.state is DeliveryState.DELIVERED
    raise typer.Exit(Exit.DONE if good else Exit.JOB_FAILED)


@command(webhooks, "deliveries", session=connected)
def list_deliveries(
    *,
    endpoint: Annotated[
        UUID | None, typer.Option("--endpoint", metavar="ID", help="Only to this endpoint.")
    ] = None,
    job: Annotated[
        UUID | None, typer.Option("--job", metavar="ID", help="Only about this job.")
    ] = None,
    state: Annotated[
        DeliveryState | None, typer.Option("--state", "-s", help="Only in this state.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")] = 20,
    session: Session,
) -> None:
    """List deliveries, newest first: id, state, event, job, attempts, status, reason."""
    found = list(
        session.client.webhooks.deliveries(endpoint=endpoint, job=job, state=state, limit=limit)
    )
    if session.screen.as_json:
        session.screen.json([_document(delivery) for delivery in found])
        return
    for delivery in found:
        _write_delivery(session.screen, delivery)
    if not found:
        session.screen.note("No deliveries match.")


@command(webhooks, "show", session=connected)
def show(
    delivery_id: Annotated[str, typer.Argument(metavar="ID", help="The delivery's id: msg_….")],
    *,
    session: Session,
) -> None:
    """Show a delivery, and below it the time, status and reason of each attempt."""
    delivery = session.client.webhooks.delivery(delivery_id)
    _write_delivery(session.screen, delivery)
    if not session.screen.as_json:
        for attempt in delivery.log:
            at = attempt.at.isoformat(timespec="seconds")
            session.screen.data(attempt.number, at, _or_dash(attempt.status), attempt.reason)


@command(webhooks, "replay", session=connected)
def replay(delivery_ids: DeliveryIds, *, session: Session) -> None:
    """Send deliveries again, with the same ids and bytes."""
    for delivery_id in delivery_ids:
        delivery = session.client.webhooks.replay(delivery_id)
        _write(session.screen, delivery, delivery.id, delivery.state.value)


def _document(value: "WireModel") -> Any:
    return value.to_dict()


def _write(screen: Screen, value: "WireModel", *fields: object) -> None:
    if screen.as_json:
        screen.json_line(_document(value))
    else:
        screen.data(*fields)


def _state(endpoint: "EndpointRead") -> str:
    if not endpoint.enabled:
        return f"disabled: {endpoint.disabled_reason}" if endpoint.disabled_reason else "disabled"
    return "enabled" if endpoint.failing_since is None else "failing"


def _write_endpoint(screen: Screen, endpoint: "EndpointRead") -> None:
    events = ",".join(event.value for event in endpoint.events)
    screen.data(endpoint.id, _state(endpoint), endpoint.url, events)


def _write_delivery(screen: Screen, delivery: "DeliveryRead") -> None:
    _write(
        screen,
        delivery,
        *(delivery.id, delivery.state.value, delivery.type, _or_dash(delivery.job_id)),
        *(delivery.attempts, _or_dash(delivery.last_status), _or_dash(delivery.last_reason)),
    )


def _or_dash(value: object) -> object:
    return "-" if value is None else value
