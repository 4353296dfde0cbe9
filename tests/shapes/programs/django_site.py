"""A Django site that sends mail, in one file: ``django_site.py PORT``. It prints what came of each mail."""

import smtplib
import sys

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    ADMINS=[("Admin", "admin@site.example")],
    DEFAULT_FROM_EMAIL="site@site.example",
    EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
    EMAIL_HOST="127.0.0.1",
    EMAIL_PORT=int(sys.argv[1]),
    EMAIL_HOST_USER="jane",
    EMAIL_HOST_PASSWORD="secret",
    ROOT_URLCONF=__name__,
    SECRET_KEY="not a secret",
    SERVER_EMAIL="root@site.example",
    USE_TZ=True,
)
django.setup()

from django.core import mail  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import path  # noqa: E402


def register(request: HttpRequest) -> HttpResponse:
    """Send a welcome."""
    who = request.GET["who"]
    try:
        sent = mail.send_mail("Welcome", f"Hello {who},\n.\nwelcome!\n", None, [f"{who}@users.example"])
    except smtplib.SMTPRecipientsRefused as exc:
        return HttpResponse(f"refused {exc.recipients}")
    return HttpResponse(f"sent {sent}")


def news(request: HttpRequest) -> HttpResponse:
    """Send a letter with an attachment to many, over one connection."""
    letters = []
    for number in range(5):
        letter = mail.EmailMultiAlternatives(
            "News: Grüße", "Grüße\n", to=[f"{number}@users.example"], bcc=["log@site.example"]
        )
        letter.attach_alternative("<p>Grüße</p>", "text/html")
        letter.attach("data.bin", bytes(range(256)), "application/octet-stream")
        letters.append(letter)
    return HttpResponse(f"sent {mail.get_connection().send_messages(letters)}")


def trouble(request: HttpRequest) -> HttpResponse:
    """Tell the admins; and a mail whose failure nobody is told of."""
    mail.mail_admins("Trouble", "It broke.")
    sent = mail.send_mail("Silent", "hi", None, ["nobody@users.example"], fail_silently=True)
    return HttpResponse(f"told the admins, and sent {sent}")


urlpatterns = [path("register", register), path("news", news), path("trouble", trouble)]

browser = Client()
for url in ("/register?who=jane", "/register?who=nobody", "/news", "/trouble", "/register?who=joe"):
    print(url, browser.get(url).content.decode())
