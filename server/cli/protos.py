"""`participants protos`"""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

import click

from server.errors import CommandError


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def protos(directory: Path) -> None:
    """Write the .proto files, with all that they import, into DIRECTORY, which is made if it is not there.

    Callers in any language generate their stubs from that folder alone, or load it as it is. Files of an earlier
    version are replaced.
    """
    try:
        with as_file(files("participants") / "protos") as source:
            shutil.copytree(source, directory, copy_function=shutil.copyfile, dirs_exist_ok=True)
    except OSError as error:
        # copytree gathers what went wrong with each file, when it was not the folder itself.
        raise CommandError(
            f"cannot write the protos into {directory}: {error.strerror or error.args[0][0][2]}"
        ) from None
    click.echo(f"the protos are in {directory}; the API is {directory / 'participants/v1/participant_service.proto'}")
