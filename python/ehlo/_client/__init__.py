"""The client wing: what every adapter needs to send mail. No I/O, no event loop."""
