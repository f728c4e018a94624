"""The viewer serves one folder to this machine alone."""

import http.client
import threading
from pathlib import Path

import pytest

from egoflow.cli import main
from egoflow.commands.view import LOOPBACK, find_page, make_server
from egoflow.errors import DataError


def asked(port: int, path: str, host: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_it_serves_the_page_and_refuses_other_names(tmp_path: Path) -> None:
    (tmp_path / "run" / "report").mkdir(parents=True)
    (tmp_path / "run" / "report" / "index.html").write_text("page")
    (tmp_path / "secret").write_text("secret")
    assert find_page(tmp_path / "run") == "report/index.html"
    with make_server(tmp_path / "run", port=0) as server:
        address, port = server.server_address[:2]
        assert address == "127.0.0.1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert asked(port, "/report/index.html", f"localhost:{port}") == (200, b"page")
        assert asked(port, "/report/index.html", "localhost") == (200, b"page")
        # A page of another site, whose name leads here, is not answered.
        assert asked(port, "/report/index.html", f"evil.example:{port}")[0] == 403
        assert asked(port, "/../secret", f"localhost:{port}")[0] == 404
        server.shutdown()


def test_folders_without_a_page_and_ports_out_of_range_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                                                ) -> None:
    with pytest.raises(DataError, match="holds no report"):
        find_page(tmp_path)
    (tmp_path / "report.html").write_text("page")
    assert main(["view", str(tmp_path), "--port", "99999999", "--no-browser"]) == 2
    assert "--port 99999999" in capsys.readouterr().err
