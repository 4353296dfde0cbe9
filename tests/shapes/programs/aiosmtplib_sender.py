"""A program that sends with aiosmtplib: ``aiosmtplib_sender.py PORT``. It prints what came of each mail."""

import asyncio
import sys
from email.message import EmailMessage

import aiosmtplib

PORT = int(sys.argv[1])


def letter(to: str, subject: str = "hi") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "jane@site.example", to, subject
    message.set_content("Grüße\n.\n.. and more\n")
    return message


async def one_shot() -> None:
    result = await aiosmtplib.send(
        letter("joe@users.example"), hostname="127.0.0.1", port=PORT, username="jane", password="secret"
    )
    print("send", result)


async def kept() -> None:
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=PORT, timeout=20)
    await client.connect()
    print("login", (await client.login("jane", "secret")).code)
    print("noop", await client.noop())
    print("extensions", sorted(client.esmtp_extensions))
    for to in ("a@users.example", "nobody@users.example", ["b@users.example", "nobody@users.example"]):
        try:
            print("sendmail", await client.sendmail("jane@site.example", to, b"Subject: hi\n\nhi\n.\n"))
        except aiosmtplib.SMTPRecipientsRefused as exc:
            print("refused", [(one.code, one.message, one.recipient) for one in exc.recipients])
    print("send_message", await client.send_message(letter("c@users.example", "Grüße")))
    await asyncio.gather(*(client.send_message(letter(f"{number}@users.example")) for number in range(5)))
    print("quit", (await client.quit()).code, client.is_connected)


async def wrong() -> None:
    try:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=PORT) as client:
            await client.login("jane", "wrong")
    except aiosmtplib.SMTPAuthenticationError as exc:
        print("wrong password", exc.code)
    try:
        await aiosmtplib.send(letter("joe@users.example"), hostname="127.0.0.1", port=1)
    except aiosmtplib.SMTPConnectError as exc:
        print("nobody there", type(exc).__name__)


async def main() -> None:
    await one_shot()
    await kept()
    await wrong()


asyncio.run(main())
