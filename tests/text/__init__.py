"""Tests of charjax.text."""
