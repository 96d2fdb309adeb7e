"""Simulated sessions: machines that share nothing, on this one."""
