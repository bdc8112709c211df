"""`ldm study serve`: the raters' page, its answers in a file."""

import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

EXAMPLES = """Examples:

- `ldm study serve studies/super-resolution`, to look at it here

- `ldm study serve studies/super-resolution --host 0.0.0.0 --port 80 --raters 30`"""


def serve(
    study: Annotated[Path, Argument(help="The folder of an exported study.", metavar="STUDY")],
    answers: Annotated[
        Path | None, Option(help="Where answers are stored (SQLite).  [default: STUDY/answers.db]")
    ] = None,
    host: Annotated[str, Option(help="The address to listen at; 0.0.0.0: every one of this machine.")] = "127.0.0.1",
    port: Annotated[int, Option(help="0: any that is free.", min=0, max=65535)] = 8000,
    raters: Annotated[int | None, Option(help="Take no more raters than so many.", min=1)] = None,
    newcomers: Annotated[int, Option(help="New raters an hour from one address.", min=1)] = 60,
    owner_token: Annotated[
        str | None,
        Option(help="Opens the owner's counts; a random one is made and printed otherwise.", envvar="LDM_OWNER_TOKEN"),
    ] = None,
) -> None:
    """Show an exported study to raters and store each answer as it comes.

    Start it again after any end: raters go on where they were. Ctrl-C ends it.
    """
    import uvicorn

    from ldm.study.answers import read_key
    from ldm.study.config import NO_COMPLETION
    from ldm.study.guards import Rate
    from ldm.study.server import Limits, application

    token = owner_token or secrets.token_urlsafe(24)
    database = answers or study / "answers.db"
    limits = Limits(raters=raters, newcomers=Rate(burst=newcomers, per_second=newcomers / 3600))
    key = study / "key.json"
    completion = read_key(key).completion if key.is_file() else NO_COMPLETION  # the key may be kept elsewhere
    app = application(study / "public", database, token, limits, completion)
    listening = _listen(host, port)
    link = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    typer.echo(f"raters   {link}/")
    typer.echo(f"owner    {link}/owner" + (f"#{token}" if owner_token is None else "  (asks for the token)"))
    typer.echo(f"answers  {database}\nCtrl-C ends it.")
    # No access log: it would hold the addresses of raters, to whom anonymity is promised.
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=5
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"{host}:{port}: {reason}; choose another --port or --host") from None
