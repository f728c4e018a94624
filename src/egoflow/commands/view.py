"""``egoflow view``: show a report in the browser of this machine, or record it for the Rerun viewer."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer
    from pathlib import Path

NAME = "view"
HELP = "show the report of a fit or a prediction in the browser, served to this machine alone"
EXAMPLE = "egoflow view runs/fit/\n  egoflow view runs/fit/ --rerun run.rrd"
PAGES = ("report.html", "report/index.html", "index.html")
LOOPBACK = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="DIR", help="folder of 'egoflow fit', or of a prediction with a report")
    parser.add_argument("--port", type=int, default=0, help="port to serve at; 0: any that is free")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    parser.add_argument("--rerun", metavar="FILE.rrd", help="instead, write the report as a recording for the viewer "
                        "of rerun.io; needs pip install 'egoflow[viewer]'")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C, or write a recording."""
    if args.rerun is not None:
        return _record(args)
    import webbrowser
    from pathlib import Path

    from egoflow.console import note, say
    from egoflow.errors import ConfigError

    folder = Path(args.run)
    page = find_page(folder)
    try:
        server = make_server(folder, port=args.port)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port {args.port}: {getattr(error, 'strerror', None) or error}; leave it out, or give "
                          f"another") from None
    address = f"http://{LOOPBACK}:{server.server_address[1]}/{page}"
    say(address)
    if not args.no_browser:
        webbrowser.open(address)
    note("Ctrl-C ends it")
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def _record(args: argparse.Namespace) -> int:
    """Write the recording."""
    from pathlib import Path

    from egoflow.console import say
    from egoflow.errors import ConfigError
    from egoflow.report.rerun_file import write_rrd

    path = Path(args.rerun)
    if path.suffix != ".rrd" or path.exists():
        raise ConfigError(f"--rerun {path}: " + ("exists; give another name" if path.exists() else
                                                 "expected a file that ends in .rrd"))
    find_page(Path(args.run))
    say(f"wrote {path}: {write_rrd(path, Path(args.run))} frames; look at it with: rerun {path}")
    return 0


def find_page(folder: "Path") -> str:
    """Return the page of a folder, relative to it; DataError where there is none."""
    from egoflow.errors import DataError

    for name in PAGES:
        if (folder / name).is_file():
            return name
    raise DataError(f"{folder}: holds no report; give the --out of 'egoflow fit', or predict with --also report")


def make_server(folder: "Path", *, port: int) -> "ThreadingHTTPServer":
    """Return a server of the files in ``folder`` that listens on this machine's own address alone.

    A page of another site that a browser here has open is refused: it asks under another host's name.
    """
    from functools import partial
    from http import HTTPStatus
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Handler(SimpleHTTPRequestHandler):
        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            # Of port 80 browsers name no port.
            host = self.headers.get("Host", "").partition(":")[0]
            if host not in (LOOPBACK, "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN)
                return False
            return True

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing of every picture."""

    return ThreadingHTTPServer((LOOPBACK, port), partial(Handler, directory=str(folder)))
