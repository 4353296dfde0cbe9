"""SASL mechanisms for both sides (RFC 4422). No I/O."""
