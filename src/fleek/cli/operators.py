"""Commands that run and maintain a service: serve, worker, migrate, doctor, config."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fleek.cli.exit_codes import Exit
from fleek.cli.imports import without_rich
from fleek.cli.screen import Screen

app = typer.Typer()
config = typer.Typer(no_args_is_help=True)
app.add_typer(config, name="config", help="The service's settings.")

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]


@app.command(rich_help_panel="Operators")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; API_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; API_PORT.")] = None,
    *,
    worker: Annotated[bool, typer.Option(help="Also make the media; see WORKER_PROCESS.")] = True,
) -> None:
    """Run the service: the HTTP API, and a worker unless --no-worker is given."""
    with without_rich():
        settings = _settings(**_address(host, port))
        from fleek.server import serve as run  # noqa: PLC0415 - heavy

    run(settings, with_worker=worker)


@app.command(rich_help_panel="Operators")
def worker(
    *,  # hidden: what "fleek serve" gives its own worker process
    attached: Annotated[bool, typer.Option("--attached", hidden=True)] = False,
    host: Annotated[str | None, typer.Option(hidden=True)] = None,
    port: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run a worker beside "fleek serve --no-worker", on the same database."""
    with without_rich():
        settings = _settings(**_address(host, port))
        from fleek.worker import run_worker  # noqa: PLC0415 - heavy

    run_worker(settings, attached=attached)


def _address(host: str | None, port: int | None) -> dict[str, Any]:
    """Return the settings that an address on the command line replaces."""
    given = {"api_host": host, "api_port": port}
    return {name: value for name, value in given.items() if value is not None}


@app.command(rich_help_panel="Operators")
def migrate() -> None:
    """Migrate the database schema to the current version; safe to repeat."""
    settings = _settings()
    from fleek import process  # noqa: PLC0415 - not needed for most commands
    from fleek.store.migrate import upgrade  # noqa: PLC0415 - heavy

    process.prepare()
    Screen().data(upgrade(settings.database_url))


@app.command(rich_help_panel="Operators")
def doctor(*, as_json: AsJson = False) -> None:
    """Check this installation; report problems and their solutions."""
    settings = _settings()
    import asyncio  # noqa: PLC0415 - heavy

    from fleek import process  # noqa: PLC0415 - not needed for most commands
    from fleek.cli.report import write  # noqa: PLC0415 - heavy
    from fleek.doctor import examine  # noqa: PLC0415 - heavy

    process.prepare()
    findings = asyncio.run(examine(settings))
    write(Screen(as_json=as_json), findings)
    bad = any(finding.status == "error" for finding in findings)
    raise typer.Exit(Exit.JOB_FAILED if bad else Exit.DONE)


@app.command(rich_help_panel="Operators")
def emulator(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 chooses a free one.")] = 9009,
    *,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    ledger: Annotated[
        Path | None, typer.Option(help="File for the ledger; an existing one is continued.")
    ] = None,
) -> None:
    """Run an offline emulator of Replicate, OpenAI, fal and ComfyUI; nothing is paid for.

    Then: REPLICATE_BASE_URL=http://127.0.0.1:9009/v1 REPLICATE_API_TOKEN=r8_offline fleek serve

    Or: OPENAI_BASE_URL=http://127.0.0.1:9009/openai/v1 OPENAI_API_KEY=sk-offline fleek serve

    Or: FAL_QUEUE_URL=http://127.0.0.1:9009/fal FAL_KEY=offline fleek serve

    Or: COMFYUI_URL=http://127.0.0.1:9009/comfyui COMFYUI_WORKFLOWS=./workflows fleek serve
    """
    from fleek.emulator.server import run  # noqa: PLC0415 - heavy

    run(port=port, seed=seed, ledger=ledger)


@config.command()
def show(*, as_json: AsJson = False) -> None:
    """Show every setting with its value; secrets are hidden."""
    settings = _settings()
    from fleek.cli.report import write_settings  # noqa: PLC0415 - heavy

    write_settings(Screen(as_json=as_json), settings)


def _settings(**overrides: Any) -> Any:
    """Read the settings; options of the command win.

    Raises:
        ConfigurationError: One is wrong.
    """
    from fleek.environment import read  # noqa: PLC0415 - heavy
    from fleek.settings import Settings  # noqa: PLC0415 - heavy

    return read(Settings, **overrides)
