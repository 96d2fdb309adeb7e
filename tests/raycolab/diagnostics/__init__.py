"""Tests of raycolab.diagnostics."""
