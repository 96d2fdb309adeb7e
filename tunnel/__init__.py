"""Relays TCP between machines that can only dial out: a hub, agents, one WebSocket each."""
