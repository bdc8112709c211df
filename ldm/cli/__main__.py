"""`python -m ldm.cli`, where `ldm` itself is not on the path."""

from ldm.cli import app

app(prog_name="ldm")
