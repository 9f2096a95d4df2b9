"""Reads responses: heads, chunked bodies, and whole responses for client apps."""
