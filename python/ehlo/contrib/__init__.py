"""This package inside of frameworks: :mod:`ehlo.contrib.django`."""
