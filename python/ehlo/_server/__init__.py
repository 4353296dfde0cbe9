"""The server wing: what every adapter needs to serve SMTP and LMTP. No I/O, no event loop."""
