"""The measuring receiver of ``ehlo bench sink``: it counts messages and makes faults on demand."""
