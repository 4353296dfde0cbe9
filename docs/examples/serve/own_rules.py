"""A program's own rules: what a method refuses is refused, and for all else the settings decide."""

import ehlo


class Filter(ehlo.Handler):
    def __init__(self, words):
        self.words = [word.encode() for word in words]

    def on_mail(self, session, sender):
        return "550 5.7.1 not from there" if str(sender.path).endswith(".invalid>") else None

    def on_message(self, session, envelope, content):
        return "550 5.7.1 no advertisement here" if any(word in content.lower() for word in self.words) else None
