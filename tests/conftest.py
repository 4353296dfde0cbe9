"""What tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import ehlo.cli


@pytest.fixture
def usage(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command with these arguments; it must call them wrong. Gives the one line that it said."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            ehlo.cli.main(list(arguments))
        assert caught.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert captured.err.startswith("ehlo")
        return captured.err

    return run
