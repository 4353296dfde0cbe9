"""A delivery into a Maildir that may be a repetition: the message of the earlier attempt is found, wherever it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit import CONTENT

from ehlo.mta import Maildir
from ehlo.mta._means import ToMailbox
from ehlo.mta._model import Message, Recipient
from loops import run


@pytest.mark.parametrize(("attempts", "crashes"), [(0, 1), (1, 0), (1, 1)])
def test_a_message_that_was_read_meanwhile_does_not_come_twice(
    loop: str, tmp_path: Path, attempts: int, crashes: int
) -> None:
    """Crashes are forgiven when a hold ends, and by an attempt that the mailbox deferred: the attempts stay."""

    async def main() -> None:
        means, message = ToMailbox(Maildir(tmp_path)), Message(1, "a@b.example", 1_700_000_000.0, len(CONTENT))
        await means.hand_over(message, [Recipient(2, "c@d.example")], CONTENT, None, 0.0)
        [found] = (tmp_path / "new").iterdir()
        found.rename(tmp_path / "cur" / f"{found.name}:2,S")
        again = Recipient(2, "c@d.example", attempts=attempts, crashes=crashes)
        handed = await means.hand_over(message, [again], CONTENT, None, 0.0)
        assert [one.result for one in handed.outcomes] == ["delivered"]
        assert list((tmp_path / "new").iterdir()) == []

    run(loop, main)
