"""Reports of ``ehlo bench``: read back from files, put side by side, and shown as one HTML page."""
