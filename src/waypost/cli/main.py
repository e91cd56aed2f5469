"""The `waypost` command."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import msgspec
import typer
import uvloop

from waypost import __version__, settings
from waypost.cli import client
from waypost.core.errors import Refused, WaypostError
from waypost.core.escape import escaped

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

LOOPBACK = ("127.0.0.0/8", "::1/128")

Server = Annotated[str | None, typer.Option(help="URL of the server. Default: WAYPOST_URL, else this machine's.")]
ApiKey = Annotated[
    str | None,
    typer.Option(help="Admin key. Default: WAYPOST_API_KEY, else the one that `waypost serve` saved on this machine."),
]
Tenant = Annotated[str, typer.Option(help="The tenant to publish for.")]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (WAYPOST_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (WAYPOST_PORT).")] = None,
    database_url: Annotated[str | None, typer.Option(help="sqlite:///FILE (WAYPOST_DATABASE_URL).")] = None,
    dev: Annotated[
        bool, typer.Option("--dev", help="Let webhooks reach this machine itself, as `waypost listen` needs it.")
    ] = False,
) -> None:
    """Run the server: API, delivery and store in one process, with one SQLite file."""
    from waypost import service  # noqa: PLC0415  the client commands start without the server's libraries
    from waypost.observe import logs  # noqa: PLC0415
    from waypost.stopping import Stopping  # noqa: PLC0415

    chosen = settings.load(host=host, port=port, database_url=database_url)
    if dev:
        chosen = chosen.model_copy(update={"webhook_allowed_networks": (*chosen.webhook_allowed_networks, *LOOPBACK)})
    stopping = Stopping(chosen.shutdown_deadline)
    stopping.watch()
    lines, journal = logs.configure(
        chosen.log_level,
        chosen.log_format,
        wide_lines=chosen.log_events,
        most_lines=chosen.log_queue_lines,
        most_bytes=chosen.log_queue_bytes,
    )
    stopping.last_words = lines.close

    def ready(running: service.Service, url: str, first_key: str | None) -> None:
        greeting = f"waypost {__version__} listens on {url}  (API reference: {url}/docs)"
        if first_key is not None:
            saved = client.save_admin_key(running.settings, first_key)
            greeting += f"\nadmin key, shown this once: {first_key}\n(kept for this machine's commands in {saved})"
        _say(greeting)

    try:
        uvloop.run(service.serve(chosen, journal, ready, stopping))
    finally:
        lines.close()
    if stopping.status:
        raise typer.Exit(stopping.status)


def _say(text: str) -> None:
    """Print what a server goes on without, should nobody be able to read it."""
    try:
        typer.echo(text)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command()
def publish(
    tenant: Tenant,
    data: Annotated[str, typer.Option(help="The event's JSON object; @FILE reads a file, - reads standard input.")],
    topic: Annotated[str | None, typer.Option(help="The event's topic.")] = None,
    event_id: Annotated[str | None, typer.Option("--id", help="The event's id; the same id is accepted once.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, may be given several times.")] = None,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Publish one event."""
    published = client.publish(
        tenant=tenant,
        topic=topic,
        data=data,
        stdin=sys.stdin.buffer,
        event_id=event_id,
        metadata=metadata or (),
        server=server,
        api_key=api_key,
    )
    typer.echo(escaped(msgspec.json.format(msgspec.json.encode(published)).decode(), keep="\n"))


@app.command()
def listen(
    tenant: Annotated[str | None, typer.Option(help="Register as a webhook of this tenant while listening.")] = None,
    topics: Annotated[list[str] | None, typer.Option(help="Topics to subscribe to; several are possible.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 4000,
    url: Annotated[str | None, typer.Option(help="Where the server reaches this receiver.")] = None,
    secret: Annotated[str | None, typer.Option(help="Signing secret, when not registered with --tenant.")] = None,
    respond: Annotated[int, typer.Option(help="Status to answer with.")] = 200,
    delay: Annotated[float, typer.Option(help="Seconds to wait before answering.")] = 0.0,
    fail_rate: Annotated[float, typer.Option(help="Share of webhooks to answer with 500.")] = 0.0,
    count: Annotated[int | None, typer.Option(help="Stop after this many webhooks.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    server: Server = None,
    api_key: ApiKey = None,
) -> None:
    """Receive webhooks on this machine, verify their signatures and show them."""
    from waypost.cli.listen import listen as run  # noqa: PLC0415

    run(
        host=host,
        port=port,
        secret=secret,
        respond=respond,
        delay=delay,
        fail_rate=fail_rate,
        tenant=tenant,
        topics=topics or ("*",),
        url=url,
        server=server,
        api_key=api_key,
        count=count,
        as_json=as_json,
    )


@app.command()
def demo() -> None:
    """Show the main job in one go: a server, a receiver, one event published, delivered and on record."""
    from waypost.cli.demo import demo as run  # noqa: PLC0415

    run()


@app.command()
def vacuum(
    database_url: Annotated[str | None, typer.Option(help="sqlite:///FILE (WAYPOST_DATABASE_URL).")] = None,
) -> None:
    """Make the database file as small as what is in it, while the server is stopped."""
    from waypost.store.sqlite import opening  # noqa: PLC0415  as above

    path = settings.load(database_url=database_url).sqlite_path
    before, after = opening.vacuum(path)
    typer.echo(f"{path}: {before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now")


@app.command()
def config() -> None:
    """Show the effective settings as a TOML file that means the same; of secrets only whether they are set."""
    for line in settings.shown(settings.load()):
        typer.echo(line)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; a mistake or a refusal ends it with one sentence and status 1."""
    try:
        app()
    except WaypostError as error:
        typer.echo(escaped(f"waypost: {_sentence(error)}", keep="\n"), err=True)
        raise SystemExit(1) from None


def _sentence(error: WaypostError) -> str:
    details: Any = error.data if isinstance(error, Refused) else None
    return f"{error}: {'; '.join(map(str, details))}" if isinstance(details, list) else str(error)
