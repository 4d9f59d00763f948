"""The commands of ``cachefs k8s``, in the order of use."""

import typer

from cachefs.cli.kubernetes import charting, doctor, installing, reading, rendering

app = typer.Typer(
    name="k8s",
    help="Kubernetes: install, look after, and render the same processes as pods.",
    no_args_is_help=True,
)


@app.callback()
def kubernetes() -> None:
    """Kubernetes: the same processes as pods."""


app.command("install")(installing.install)
app.command("doctor")(doctor.doctor)
app.command("render")(rendering.render)
app.command("chart")(charting.chart)
app.command("reader")(reading.reader)
app.command("uninstall")(installing.uninstall)
