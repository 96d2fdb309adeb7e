"""Tests of raycolab.diagnosis."""
